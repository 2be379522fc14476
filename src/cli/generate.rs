use std::path::PathBuf;

use clap::ValueEnum;
use clap_complete::env::Shells;

use super::Context;
use crate::error::{Context as _, Error, Result};

/// Write the manual pages, or the completions of all shells, into a directory
#[derive(Debug, clap::Args)]
pub(super) struct Generate {
    #[arg(value_enum)]
    what: Generated,

    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Generated {
    Man,
    Completions,
}

impl Generate {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let step = || format!("write into `{}`", self.dir.display());
        std::fs::create_dir_all(&self.dir).context(step)?;
        match self.what {
            Generated::Man => clap_mangen::generate_to((context.command)(), &self.dir).context(step)?,
            Generated::Completions => self.completions().context(step)?,
        }
        context.done(self.dir.display(), ())
    }

    /// One small script a shell, which asks the program itself: names of containers are live.
    fn completions(&self) -> Result<()> {
        for (shell, file) in [("bash", "lxm"), ("zsh", "_lxm"), ("fish", "lxm.fish")] {
            let shells = Shells::builtins();
            let script = shells.completer(shell).ok_or_else(|| Error::failed(format!("`{shell}` is not known")))?;
            let mut text = Vec::new();
            script.write_registration("COMPLETE", "lxm", "lxm", "lxm", &mut text)?;
            std::fs::write(self.dir.join(file), text)?;
        }
        Ok(())
    }
}
