//! Messages between processes: JSON on sequenced-packet sockets, descriptors beside them.
//!
//! It names `types` and `error` alone. Start reading at `control`.

pub(crate) mod control;
