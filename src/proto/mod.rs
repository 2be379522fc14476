//! Messages between processes: JSON on sequenced-packet sockets, descriptors beside them.

pub mod control;
