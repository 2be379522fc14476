//! What no container uses any more goes.

use super::{choose, layers};
use crate::error::Result;
use crate::store::Layout;

/// Removes what no container, snapshot or copy uses any more; returns how many layers there were.
pub(crate) fn sweep(layout: &Layout) -> Result<usize> {
    choose::sweep_trial(layout)?;
    layers::Layers::new(layout).sweep()
}
