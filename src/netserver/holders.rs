//! Which client was given each address last, so that the bridge's rules drop the client that had it before.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::lease::Leases;
use crate::types::Mac;

#[derive(Debug)]
pub(super) struct Holders {
    of: HashMap<Ipv4Addr, Mac>,
    answered: HashMap<Mac, Ipv4Addr>,
    changed: Vec<(Option<Mac>, Ipv4Addr)>,
}

impl Holders {
    pub(super) fn new(leases: &Leases) -> Self {
        Holders {
            of: leases.iter().map(|lease| (lease.address, lease.mac)).collect(),
            answered: leases.iter().map(|lease| (lease.mac, lease.address)).collect(),
            changed: Vec::new(),
        }
    }

    /// The address belongs to this MAC address from now on.
    pub(super) fn pass_on(&mut self, address: Ipv4Addr, mac: Mac) {
        if self.of.insert(address, mac).is_some_and(|before| before != mac) {
            self.changed.push((Some(mac), address));
        }
    }

    /// A client is given an address; the one that it had before is free.
    pub(super) fn answer(&mut self, mac: Mac, address: Ipv4Addr) {
        self.pass_on(address, mac);
        let former = self.answered.insert(mac, address).filter(|former| *former != address);
        if let Some(former) = former.filter(|former| self.of.get(former) == Some(&mac)) {
            self.of.remove(&former);
            self.changed.push((None, former));
        }
    }

    /// Addresses that were given to another client before, each with its present holder if it has one, since
    /// the last call.
    pub(super) fn take_changed(&mut self) -> Vec<(Option<Mac>, Ipv4Addr)> {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_holder_and_a_client_one_address() {
        let [a, b] = [1, 2].map(|last| Mac([2, 0, 0, 0, 0, last]));
        let [one, two] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 3, last));
        let mut holders = Holders::new(&Leases::default());
        holders.answer(a, one);
        holders.answer(a, one);
        assert_eq!(holders.take_changed(), [], "it was free");
        holders.answer(a, two);
        assert_eq!(holders.take_changed(), [(None, one)]);
        holders.pass_on(two, b);
        assert_eq!(holders.take_changed(), [(Some(b), two)]);
        holders.answer(a, one);
        assert_eq!(holders.take_changed(), [], "what is another's already is not taken from him");
    }
}
