//! Against a runtime's side that says what the test wants it to say, well-formed or not.

mod details;
mod ids;
mod protocol;
mod runtime;
