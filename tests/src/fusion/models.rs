//! Real models: fusion leaves no batch normalization that could fold, finds the activations, and changes nothing.
