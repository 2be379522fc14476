//! A container's identity, which no other one has: one table of what only one container may have, read from
//! all that are known.
//!
//! | file | idea |
//! |---|---|
//! | `claims` | what a container claims for itself alone, and when two claims clash |
//! | `table` | the claims of all containers, and who else has one |
//! | `home` | whether a container is where it was made, by which a copy of it is recognised |
//! | `held` | what a running container has locked: never two at once, whatever the files say |
//!
//! It may name `net`, `storage` and what stands below them. Start reading at `claims`.
//!
//! Changes are compared with the table, which reads every container. A start is not: it looks at its
//! own home and takes locks, whose cost does not grow with the number of containers.

mod claims;
mod held;
mod home;
mod table;

pub(crate) use claims::{Claim, of};
pub(crate) use held::{ClaimLocks, require_unheld};
pub(crate) use home::require_own;
pub(crate) use table::{ClaimOwner, Clash, all_clashes, clashes, ids_of_all, require_free};
