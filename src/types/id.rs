/// The number of a user or group, as a person or /etc/passwd writes it: digits alone (`+0` is a name),
/// and not the highest, which chown(2) and setresuid(2) take for "as it is".
pub(crate) fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::parse_id;

    #[test]
    fn an_id_is_a_number_that_the_kernel_takes_for_one() {
        assert_eq!((parse_id("0"), parse_id("4294967294")), (Some(0), Some(u32::MAX - 1)));
        for none in ["4294967295", "4294967296", "+1", "-1", "", " 1", "1a"] {
            assert_eq!(parse_id(none), None, "{none}");
        }
    }
}
