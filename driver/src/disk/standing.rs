//! What a member's disk says of the promises made on it: one small file a group.
//!
//! It is replaced as a whole, and synced before anything that an impaired member discards. A file
//! that is there and cannot be read says the worst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jetwake::event::{Damage, Impairment, Loss, Standing};

use super::failure::damage;
use super::folder::replace;

const MAGIC: &[u8; 8] = b"jwstand1";

/// The file of one group.
#[derive(Debug)]
pub(super) struct StandingFile {
    path: PathBuf,
    group: String,
}

impl StandingFile {
    /// Reads the file; nothing is known without one.
    pub(super) fn open(path: PathBuf, group: &str) -> (Self, Standing) {
        let this = Self { path, group: group.into() };
        let standing = match fs::read(&this.path) {
            Ok(bytes) => this
                .decode(&bytes)
                .unwrap_or_else(|| worst(damage(&this.path, Some(0), "wrong checksum"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Standing::Unknown,
            Err(error) => worst(damage(&this.path, None, error.to_string())),
        };
        (this, standing)
    }

    fn decode(&self, bytes: &[u8]) -> Option<Standing> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let body = body.strip_prefix(MAGIC)?;
        let whole = u32::from_le_bytes(*sum) == self.sum(body);
        whole.then(|| postcard::from_bytes(body).ok()).flatten()
    }

    /// The group's name is in the checksum: the file of another group does not pass.
    fn sum(&self, body: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(self.group.as_bytes()), body)
    }

    /// Replaces what it says; synced when it returns.
    pub(super) fn write(&self, standing: &Standing) -> io::Result<()> {
        let body = postcard::to_allocvec(standing).map_err(io::Error::other)?;
        let bytes = [&MAGIC[..], &body, &self.sum(&body).to_le_bytes()].concat();
        replace(&self.path, &bytes)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn worst(damage: Damage) -> Standing {
    Standing::Impaired(Impairment { lost: Loss::Everything, found: vec![damage] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_kept_and_a_spoilt_one_says_the_worst() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("S");
        let (file, standing) = StandingFile::open(path.clone(), "S");
        assert_eq!(standing, Standing::Unknown);
        file.write(&Standing::Whole).unwrap();
        assert_eq!(StandingFile::open(path.clone(), "S").1, Standing::Whole);
        let (_, of_another) = StandingFile::open(path.clone(), "T");
        assert!(matches!(of_another, Standing::Impaired(_)));
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (_, Standing::Impaired(Impairment { lost, found })) = StandingFile::open(path, "S")
        else {
            panic!("it passes");
        };
        assert_eq!((lost, found.len()), (Loss::Everything, 1));
    }
}
