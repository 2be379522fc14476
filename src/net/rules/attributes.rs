//! Elements of sets as the kernel lists them: attributes within attributes (`linux/netfilter/nf_tables.h`).

/// Attributes that follow each other, each with its type.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let number = |at: usize| Some(u16::from_ne_bytes(self.0.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(number(0)?), number(2)?);
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        // Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
        Some((kind & 0x3fff, payload))
    }
}

fn find(within: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(within).find(|(of, _)| *of == kind).map(|(_, payload)| payload)
}

/// The keys of the elements in a message, with the packets that they have counted.
pub(super) fn elements(message: &[u8]) -> Vec<(Vec<u8>, Option<u64>)> {
    let list = find(message, 3).unwrap_or_default(); // NFTA_SET_ELEM_LIST_ELEMENTS
    let element = |(_, element): (u16, &[u8])| {
        let key = find(find(element, 1)?, 1)?; // NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
        // NFTA_SET_ELEM_EXPR, or a list of several in NFTA_SET_ELEM_EXPRESSIONS.
        let one = find(element, 7).and_then(packets);
        let several = || Attributes(find(element, 11)?).find_map(|(_, expression)| packets(expression));
        Some((key.to_vec(), one.or_else(several)))
    };
    Attributes(list).filter_map(element).collect()
}

/// What a counter has counted: NFTA_EXPR_NAME, NFTA_EXPR_DATA, NFTA_COUNTER_PACKETS.
fn packets(expression: &[u8]) -> Option<u64> {
    let is_counter = find(expression, 1)?.strip_suffix(b"\0") == Some(b"counter");
    let count = is_counter.then(|| find(find(expression, 2)?, 2))??;
    Some(u64::from_be_bytes(count.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [&(4 + payload.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), payload].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn elements_are_read_with_their_counters() {
        let key = |last: u8| attribute(0x8001, &attribute(1, &[2, 0, 0, 0, 0, last]));
        let data = [attribute(1, &[0; 8]), attribute(2, &7u64.to_be_bytes())].concat();
        let counter = [attribute(1, b"counter\0"), attribute(0x8002, &data)].concat();
        let limit = [attribute(1, b"limit\0"), attribute(0x8002, &data)].concat();
        let items = [
            attribute(0x8001, &[key(1), attribute(0x8007, &counter)].concat()),
            attribute(0x8001, &key(2)),
            attribute(0x8001, &[key(3), attribute(0x8007, &limit)].concat()),
        ];
        let message = [attribute(1, b"lxm\0"), attribute(0x8003, &items.concat())].concat();
        let expected = [(1, Some(7)), (2, None), (3, None)].map(|(last, count)| (vec![2, 0, 0, 0, 0, last], count));
        assert_eq!(elements(&message), expected);
        for cut in 0..message.len() {
            assert!(elements(&message[..cut]).len() <= 3);
        }
    }
}
