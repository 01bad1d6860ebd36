//! Policies resolved, compiled, evaluated and explained, without any I/O.
