//! What a measurement gives.

/// A value, or why there is none: a row says so, and the other side is measured all the same.
pub type Measured<T = f64> = Result<T, String>;
