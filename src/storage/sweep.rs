//! What no container uses any more goes.

use super::layers::SweptLayers;
use super::{choose, layers};
use crate::error::Result;
use crate::store::Layout;

/// Removes what no container, snapshot or copy uses any more.
pub(crate) fn sweep(layout: &Layout) -> Result<SweptLayers> {
    choose::sweep_trial(layout)?;
    layers::Layers::new(layout).sweep()
}
