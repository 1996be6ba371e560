//! Where a demo keeps its data: a folder of its own, gone when the demo is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::DemoError;

/// The folder of one demo.
#[derive(Debug)]
pub(super) struct Folder {
    dir: TempDir,
    /// The folder around it, if it was made for it.
    around: Option<PathBuf>,
}

impl Folder {
    /// Makes a new folder inside of this one, or where the system has its temporary files.
    pub(super) fn make(inside: Option<&Path>) -> Result<Self, DemoError> {
        let mut around = None;
        let parent = inside.map_or_else(std::env::temp_dir, Path::to_owned);
        if inside.is_some() {
            match fs::create_dir(&parent) {
                Ok(()) => around = Some(parent.clone()),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(DemoError::File { path: parent, why }),
            }
        }
        let made = parent.canonicalize().and_then(|parent| {
            let dir = tempfile::Builder::new().prefix("jetwake-demo-").tempdir_in(parent)?;
            Ok(Self { dir, around: around.clone() })
        });
        made.map_err(|why| {
            // Whatever this says, the first error is the one to tell.
            around.map(fs::remove_dir);
            DemoError::File { path: parent, why }
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves it where it is.
    pub(super) fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    /// Removes it with all that is in it.
    pub(super) fn remove(self) -> Result<(), DemoError> {
        let path = self.dir.path().to_owned();
        self.dir.close().map_err(|why| DemoError::File { path, why })?;
        if let Some(around) = self.around {
            // Somebody may have put something there meanwhile; then it stays.
            let _ = fs::remove_dir(around);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_leaves_nothing_behind() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let inside = parent.path().join("new");
        let folder = Folder::make(Some(&inside)).expect("a folder");
        fs::write(folder.path().join("file"), "x").expect("a file");
        assert!(folder.path().starts_with(inside.canonicalize().expect("a folder")));
        folder.remove().expect("an empty parent");
        assert!(!inside.exists());
        Folder::make(Some(parent.path())).expect("a folder").remove().expect("removed");
        assert!(parent.path().exists());
    }

    #[test]
    fn a_kept_folder_stays() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let kept = Folder::make(Some(parent.path())).expect("a folder").keep();
        assert!(kept.is_dir());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let inside = parent.path().join("none").join("new");
        let error = Folder::make(Some(&inside)).expect_err("no parent").to_string();
        assert!(error.contains("none/new"), "{error}");
    }
}
