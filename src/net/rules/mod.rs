//! The tables `inet lxm` and `bridge lxm`, or those of another owner's names ([`super::owner`]): written
//! whole each time, and again when they were flushed. Nothing else is ever touched here.
//!
//! | file | idea |
//! |---|---|
//! | `tables`, `guard` | the text of both, from what is known |
//! | `apply` | what is known is read from records, and the text given to nft |
//! | `holding`, `learnt`, `elements` | whose an address is: elements of the sets, while the tables stand |
//! | `drops`, `attributes` | what guests have sent from addresses that are not theirs |
//! | `watch` | what others have flushed is written again |
//! | `shape` | what a table has, to see that something is missing |
//! | `command`, `listing` | the program nft, and what it lists |

mod apply;
mod attributes;
mod command;
mod drops;
mod elements;
mod guard;
mod holding;
mod learnt;
mod listing;
mod shape;
mod tables;
mod watch;

pub(crate) use apply::{apply, apply_translation, is_whole};
pub(crate) use command::{list, lock, run};
pub(crate) use drops::{Dropped, Drops, drops, forget_drops};
pub use holding::Holding;
pub(crate) use holding::{Permit, holdings, permits};
pub use learnt::is_held;
pub(crate) use learnt::{give, take_back};
pub(crate) use listing::{Chain, Listing, Rule};
pub(crate) use watch::{repair, spawn as spawn_watchdog};
