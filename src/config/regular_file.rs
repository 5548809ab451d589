//! Opens and reads the files that the configuration names: regular ones only, also through symbolic links, and up to a size.
//! Opening a FIFO would wait for whoever writes to it, and reading a device need not end.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

/// The longest file of keys, certificates or text that is read, in bytes.
pub const LONGEST_FILE: usize = 1 << 20;

/// Opens a regular file for reading.
///
/// # Errors
/// There is none, it is something else, or it may not be read.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true))
}

/// Looks whether a file is a regular one.
///
/// # Errors
/// There is none, or it is something else.
pub fn demand_regular(path: &Path) -> io::Result<()> {
    check_kind(fs::metadata(path)?.file_type())
}

/// Opens a regular file, which may be missing if `options` create it.
///
/// # Errors
/// As [`open_regular`].
pub fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match demand_regular(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // It may be replaced between the look and the opening, which must not wait then.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = options.custom_flags(flags).open(path)?;
    check_kind(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file of at most `LONGEST_FILE` bytes.
///
/// # Errors
/// As [`open_regular`], or it is longer.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(open_regular(path)?, LONGEST_FILE)
}

/// The same for text.
///
/// # Errors
/// As [`read_regular`], or it is not UTF-8.
pub fn read_regular_text(path: &Path) -> io::Result<String> {
    let text = String::from_utf8(read_regular(path)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Reads an open file of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read_up_to(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let text = format!("it is longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

fn check_kind(kind: FileType) -> io::Result<()> {
    let name = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe (FIFO)"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let text = format!("it is {name}, and not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType as NodeType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_are_opened_also_through_symbolic_links() {
        let home = tempfile::tempdir().unwrap();
        let [file, link, fifo, to_fifo] =
            ["file", "link", "fifo", "to-fifo"].map(|name| home.path().join(name));
        fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        mknodat(CWD, &fifo, NodeType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink(&fifo, &to_fifo).unwrap();
        for good in [&file, &link] {
            assert_eq!(read_regular_text(good).unwrap(), "text");
        }
        for (path, said) in [
            (fifo.as_path(), "a pipe (FIFO)"),
            (&to_fifo, "a pipe (FIFO)"),
            (home.path(), "a folder"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/null"), "a device"),
        ] {
            let error = read_regular(path).unwrap_err().to_string();
            assert!(error.contains(said), "{}: {error}", path.display());
            let mut write = OpenOptions::new();
            let error = open_with(path, write.append(true).create(true)).unwrap_err();
            assert!(
                error.to_string().contains(said),
                "{}: {error}",
                path.display()
            );
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("long");
        fs::write(&path, vec![b'x'; LONGEST_FILE]).unwrap();
        assert_eq!(read_regular(&path).unwrap().len(), LONGEST_FILE);
        fs::write(&path, vec![b'x'; LONGEST_FILE + 1]).unwrap();
        let error = read_regular(&path).unwrap_err().to_string();
        assert!(error.contains("longer than 1048576 bytes"), "{error}");
        fs::write(&path, [0xff]).unwrap();
        assert!(read_regular_text(&path).is_err());
    }
}
