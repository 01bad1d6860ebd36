//! Flows and verdicts, the words that rules and logs share.
