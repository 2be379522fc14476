//! Who may log in to a new container: the keys and the password of its default user.

use std::path::{Path, PathBuf};

use sha_crypt::{PasswordHasher, ShaCrypt};

use crate::error::{Context, Error, Result};

/// The most that is read of a file of public keys.
const LIMIT: u64 = 1 << 16;

/// Reads the public keys of `file`, which was named on the command line.
pub(crate) fn keys_of(file: &Path) -> Result<Vec<String>> {
    let step = || format!("read ssh key `{}`", file.display());
    let text = read(file).context(step)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(Error::usage("it is a private key")
            .hint(format!("name its public half, `{}.pub`", file.display()))
            .step(step()));
    }
    match public_keys(&text) {
        keys if keys.is_empty() => Err(Error::usage("there is no public key in it").step(step())),
        keys => Ok(keys),
    }
}

/// The public keys of the person who runs this, `~/.ssh/*.pub`: under sudo those of who called it.
pub(crate) fn keys_of_caller() -> Vec<String> {
    let home = std::env::var("SUDO_USER").ok().and_then(|user| home_of(&user));
    let Some(home) = home.or_else(|| std::env::var_os("HOME").map(PathBuf::from)) else { return Vec::new() };
    let entries = std::fs::read_dir(home.join(".ssh")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "pub")).collect();
    files.sort();
    // A file that cannot be read is skipped: it was not named on the command line.
    files.iter().filter_map(|file| read(file).ok()).flat_map(|text| public_keys(&text)).collect()
}

fn home_of(user: &str) -> Option<PathBuf> {
    nix::unistd::User::from_name(user).ok().flatten().map(|user| user.dir)
}

fn read(file: &Path) -> Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)?.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// The lines that sshd takes for keys (authorized_keys(5)); certificates and comments are none.
fn public_keys(text: &str) -> Vec<String> {
    let is_key = |line: &&str| {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or("");
        let known = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| kind.starts_with(prefix));
        known && !kind.contains("-cert-v01") && words.next().is_some_and(|key| key.starts_with("AAAA"))
    };
    let printable = |line: &&str| !line.contains(|c: char| c.is_control() && c != '\t');
    text.lines().map(str::trim).filter(is_key).filter(printable).map(str::to_owned).collect()
}

/// Hashes a password as crypt(3) checks it: `$6$`, which every C library knows.
pub(crate) fn hash_password(password: &str) -> Result<String> {
    if password.is_empty() || password.contains(|c: char| c.is_control()) {
        return Err(Error::usage("a password is neither empty nor has it control characters"));
    }
    // 12 bytes become 16 characters of salt: crypt(3) cuts longer ones, and no login would succeed.
    let salt = crate::container::random::bytes::<12>()?;
    let hash = ShaCrypt::SHA512.hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| hash.as_str().to_owned()).map_err(|e| Error::failed(format!("hash the password: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_are_distinguished_from_all_else() {
        let text = "# mine\nssh-ed25519 AAAAC3Nza me@here\n\necdsa-sha2-nistp256 AAAAE2 x\nssh-ed25519-cert-v01@openssh.com AAAA y\n\
                    -----BEGIN X-----\nssh-rsa not-base64\nssh-rsa AAAAB3\x1b[2J\n";
        assert_eq!(public_keys(text), ["ssh-ed25519 AAAAC3Nza me@here", "ecdsa-sha2-nistp256 AAAAE2 x"]);
    }

    #[test]
    fn a_private_key_is_refused_with_the_name_of_the_public_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("id");
        std::fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let e = keys_of(&file).unwrap_err();
        assert!(e.hint_text().unwrap().contains("id.pub"), "{e}");
        assert!(keys_of(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_hash_has_a_salt_that_crypt_takes_whole() {
        let hash = hash_password("secret").unwrap();
        let fields: Vec<&str> = hash.split('$').collect();
        assert_eq!(fields[1], "6");
        assert_eq!(fields[fields.len() - 2].len(), 16, "{hash}");
        assert!(hash_password("").is_err() && hash_password("a\nb").is_err());
    }
}
