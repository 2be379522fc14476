use std::process::ExitCode;

fn main() -> ExitCode {
    lxm::main()
}
