//! The public words of Sidewall: custom resources, annotations, names.
