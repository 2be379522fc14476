//! The closed list of devices: a BPF program on the guest's v2 group.
//!
//! It works in every layout, because device programs need no controller. Its bytecode is ours:
//! a few compares for each rule, in the shape that the kernel's documentation of
//! `BPF_PROG_TYPE_CGROUP_DEVICE` gives and runc, systemd and LXC use.

/// A device that the guest may use: read, write, make nodes of. A guest that may open a device by lxm's node
/// of it gains nothing by another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub kind: DeviceKind,
    pub major: u32,
    /// `None` means all.
    pub minor: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Char,
    Block,
}

/// One instruction: opcode, destination and source registers, jump offset, constant (bpf(2)).
fn instruction(opcode: u8, dst: u8, src: u8, offset: i16, constant: u32) -> u64 {
    u64::from(opcode)
        | u64::from(dst) << 8
        | u64::from(src) << 12
        | u64::from(offset as u16) << 16
        | u64::from(constant) << 32
}

const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE_CONSTANT: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND_CONSTANT: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const JUMP_UNLESS_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Registers: 1 is the context on entry, 2 type, 4 major, 5 minor.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, the type in the lower half.
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_CONSTANT, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let kind = match rule.kind {
            DeviceKind::Block => 1,
            DeviceKind::Char => 2,
        };
        let mut compares = vec![(2, kind), (4, rule.major)];
        compares.extend(rule.minor.map(|minor| (5, minor)));
        let total = compares.len() + 2;
        for (index, (register, value)) in compares.into_iter().enumerate() {
            // Offsets count from the next instruction: to the end of this rule.
            let to_next_rule = (total - index - 1) as i16;
            code.push(instruction(JUMP_UNLESS_EQUAL, register, 0, to_next_rule, value));
        }
        code.extend([instruction(MOVE_CONSTANT, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    }
    code.extend([instruction(MOVE_CONSTANT, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    code
}
