//! What the verbs do, step by step, each step with its undo. No flags and no printing here.

pub mod start;
pub mod stop;
