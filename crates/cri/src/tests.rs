//! Against a runtime's side that says what the test wants it to say, well-formed or not.

mod details;
mod protocol;
mod runtime;
