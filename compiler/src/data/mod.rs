//! Samples for calibration and evaluation: image folders, npy/npz, CIFAR-10, MNIST idx, seeded noise.
