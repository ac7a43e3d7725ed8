//! The spine: import, fuse, calibrate, quantize, schedule, jit, emit. No other file knows the order.
