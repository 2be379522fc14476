//! What is known of distributions: what a root file system holds, and the edits that make it a guest.

pub mod compat;
mod inspect;

pub use inspect::{Guest, inspect};
