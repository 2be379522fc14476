//! Root file systems on their way: out of archives and into them, copied, and kept as images.

pub mod compress;
