//! The one layer of an image: a tar file of what is in it.

use super::{File, header, put};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use tar::{Builder, EntryType};

/// A folder that nobody has given permissions.
const FOLDER: u32 = 0o755;

/// The layer with these files. Each folder comes before what is in it.
pub(super) fn of(files: &BTreeMap<String, File>) -> io::Result<Vec<u8>> {
    let mut folders: BTreeMap<&Path, u32> = BTreeMap::new();
    for (path, file) in files {
        for above in Path::new(path).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            folders.entry(above).or_insert(FOLDER);
        }
        if let File::Folder(mode) = file {
            folders.insert(Path::new(path), *mode);
        }
    }
    let mut tar = Builder::new(Vec::new());
    for (folder, mode) in folders {
        tar.append_data(&mut header(EntryType::Directory, mode, 0), folder, io::empty())?;
    }
    for (path, file) in files {
        match file {
            File::Folder(_) => {}
            File::Link(to) => tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, to)?,
            File::Content(content, mode) => put(&mut tar, path, *mode, content)?,
        }
    }
    tar.into_inner()
}
