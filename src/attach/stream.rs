//! Standard input and output joined to a connection.

use std::os::fd::OwnedFd;

use super::ends::End;
use super::flow::{Flow, standard};
use super::relay::{Relay, RelayEvent};
use crate::error::{Context, Result};

/// The flows of standard input into `stream` and of `stream` to standard output, in this order.
pub(super) fn flows(stream: OwnedFd) -> Result<[Flow; 2]> {
    let step = || "set up the connection";
    let back = stream.try_clone().context(step)?;
    let stdin = End::source(standard(std::io::stdin()).context(step)?);
    let stdout = End::sink(standard(std::io::stdout()).context(step)?);
    Ok([
        Flow::new("standard input", stdin, End::own(stream).context(step)?),
        Flow::new("standard output", End::own(back).context(step)?, stdout),
    ])
}

/// Joins standard input and output to `stream` until the other side has sent its last byte: a client that
/// sends no more may still receive.
pub(crate) fn join(stream: OwnedFd) -> Result<()> {
    const INPUT: usize = 0;
    let mut relay = Relay::new(&[], flows(stream)?.into())?;
    loop {
        match relay.wait(None, None)? {
            RelayEvent::Ended(INPUT) => relay.flows[INPUT].close_sink(),
            RelayEvent::Ended(_) => return relay.failure(),
            RelayEvent::Signal(_) | RelayEvent::Packet | RelayEvent::Leave | RelayEvent::Nothing => {}
        }
    }
}
