//! How a supervisor is started and kept: by a command line on a bare host, by systemd where that
//! is PID 1.

pub mod bare;
