//! `cargo xtask image`: the programs as container images, without a container engine. Static programs and nothing else: no shell, no
//! libraries, nobody's distribution to keep current.
//!
//! The same commit gives the same bytes with the same compiler, wherever it is built: paths of the machine are mapped away, and
//! nothing has a time.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sidewall_oci::{Architecture, File, Image};
use thiserror::Error;

use crate::command::{self, CommandError};
use crate::report;
use crate::sbom::{self, SbomError};
use crate::toolchain;
use crate::workspace::Workspace;

/// What `image` takes.
#[derive(clap::Args)]
pub struct Options {
    /// Which images, by the names of their programs; none is all of them
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Where the archives go [default: image in cargo's target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What goes before an image's name
    #[arg(long, value_name = "HOST/PATH", default_value = "sidewall")]
    repository: String,
    /// The images' tag [default: the workspace's version]
    #[arg(long)]
    tag: Option<String>,
    /// Build nothing: take the programs from this folder as they are, with the libraries that they load. For tests
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// An image, and what is in it.
struct Product {
    /// Its name, and the first package's.
    name: &'static str,
    /// What it is, for who finds it in a registry.
    description: &'static str,
    /// The packages, each of one program of the same name, and where the programs go.
    programs: &'static [(&'static str, &'static str)],
    /// Whose process it is: the agent needs root's rights on the node, nobody else any.
    user: &'static str,
}

/// The workspace's version, which is this program's too.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A user that nobody is: that of other images without a shell as well.
const NOBODY: &str = "65532:65532";

const PRODUCTS: &[Product] = &[
    Product {
        name: "sidewall-agent",
        description: "Sidewall's agent: walls between the containers of this node's pods",
        programs: &[
            ("sidewall-agent", "usr/bin/sidewall-agent"),
            // The agent copies it to the node.
            ("sidewall-cni", "usr/libexec/sidewall/sidewall-cni"),
        ],
        user: "0:0",
    },
    Product {
        name: "sidewall-operator",
        description: "Sidewall's operator: puts the front proxy into pods, and keeps what it needs",
        programs: &[("sidewall-operator", "usr/bin/sidewall-operator")],
        user: NOBODY,
    },
    Product {
        name: "sidewall-proxy",
        description: "Sidewall's front proxy: authenticates every request before the application sees it",
        programs: &[("sidewall-proxy", "usr/bin/sidewall-proxy")],
        user: NOBODY,
    },
];

/// Where an image's bill of materials is in it.
const BILL: &str = "usr/share/sidewall/sbom.cdx.json";

/// Why there is no image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// There is none of that name.
    #[error("there is no image {name:?}: it can be {}", PRODUCTS.iter().map(|product| product.name).collect::<Vec<_>>().join(" or "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A program does not build, or cargo says nothing of it.
    #[error(transparent)]
    Cargo(#[from] CommandError),
    /// Its bill of materials can't be written.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// A program needs libraries, which the image does not have.
    #[error("{} is not static: this target's C library can't be linked into it", path.display())]
    Dynamic {
        /// The program.
        path: PathBuf,
    },
    /// A program can't be read, or an archive not written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Builds and writes the images that are asked for.
///
/// # Errors
/// [`ImageError`]; archives that were written before are there.
pub fn run(workspace: &Workspace, options: &Options) -> Result<(), ImageError> {
    if let Some(name) = options.names.iter().find(|name| PRODUCTS.iter().all(|product| product.name != **name)) {
        return Err(ImageError::Unknown { name: name.clone() });
    }
    let folder = options.out.clone().unwrap_or_else(|| workspace.target.join("image"));
    std::fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
    let tag = options.tag.as_deref().unwrap_or(VERSION);
    let wanted = |product: &&Product| options.names.is_empty() || options.names.iter().any(|name| name == product.name);
    for product in PRODUCTS.iter().filter(wanted) {
        let packages: Vec<&str> = product.programs.iter().map(|(package, _)| *package).collect();
        let bill = sbom::of(workspace, product.name, VERSION, &packages, &toolchain::static_target())?;
        let mut image = Image {
            reference: format!("{}/{}:{tag}", options.repository, product.name),
            entrypoint: vec![format!("/{}", product.programs[0].1)],
            user: product.user.to_owned(),
            annotations: BTreeMap::from([
                ("org.opencontainers.image.title".to_owned(), product.name.to_owned()),
                ("org.opencontainers.image.description".to_owned(), product.description.to_owned()),
                ("org.opencontainers.image.version".to_owned(), VERSION.to_owned()),
                ("org.opencontainers.image.licenses".to_owned(), "Apache-2.0".to_owned()),
            ]),
            architecture: Architecture::default(),
            ..Image::default()
        };
        for (package, path) in product.programs {
            let program = match &options.programs {
                Some(folder) => folder.join(package),
                None => {
                    report::step(&format!("build {package} (release, static)"));
                    built(workspace, package)?
                }
            };
            let content = std::fs::read(&program).map_err(failed("read", &program))?;
            if needs_libraries(&content) {
                if options.programs.is_none() {
                    return Err(ImageError::Dynamic { path: program });
                }
                for library in libraries(&program)? {
                    let content = std::fs::read(&library).map_err(failed("read", &library))?;
                    let path = library.strip_prefix("/").unwrap_or(&library).display().to_string();
                    image.files.insert(path, File::Content(content, 0o755));
                }
            }
            image.files.insert((*path).to_owned(), File::Content(content, 0o755));
        }
        image.files.insert(BILL.to_owned(), File::Content(bill.clone(), 0o644));
        let (archive, beside) =
            (folder.join(format!("{}.tar", product.name)), folder.join(format!("{}.cdx.json", product.name)));
        let file = std::fs::File::create(&archive).map_err(failed("write", &archive))?;
        let digest = image.write(io::BufWriter::new(file)).map_err(failed("write", &archive))?;
        std::fs::write(&beside, &bill).map_err(failed("write", &beside))?;
        println!("{}@{digest} {}", image.reference, archive.display());
    }
    Ok(())
}

/// Builds a package's program without libraries, and without a trace of where it was built.
fn built(workspace: &Workspace, package: &str) -> Result<PathBuf, ImageError> {
    let target = toolchain::static_target();
    let cargo_home = home("CARGO_HOME", ".cargo");
    let flags = [
        "-C".to_owned(),
        "target-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/sidewall", workspace.root.display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
        format!("--remap-path-prefix={}=/target", workspace.target.display()),
    ];
    // What C code says of itself in assertions.
    let c_flags = [(&workspace.root, "/sidewall"), (&cargo_home, "/cargo"), (&workspace.target, "/target")]
        .map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
        .join(" ");
    command::run(
        workspace
            .cargo()
            .args(["build", "--release", "--locked", "--bin", package, "-p", package, "--target", &target])
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env("CFLAGS", c_flags),
    )?;
    Ok(workspace.target.join(target).join("release").join(package))
}

/// The libraries that a program loads, and what loads them, where they are looked for.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let listed = command::output(command::program("ldd").arg(program))?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    Ok(listed.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn home(variable: &str, below: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(below);
    std::env::var_os(variable).map_or_else(home, PathBuf::from)
}

/// Whether an ELF program asks for an interpreter (`PT_INTERP`): the dynamic linker, that then loads libraries.
fn needs_libraries(program: &[u8]) -> bool {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let headers = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    // A little-endian 64-bit file, as on every processor that we build for.
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return true;
    }
    let Some((offset, size, count)) = headers() else { return true };
    const PT_INTERP: usize = 3;
    (0..count).any(|index| number(offset + index * size, 4).is_none_or(|kind| kind == PT_INTERP))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ImageError + 'a {
    move |source| ImageError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_libraries_and_what_is_no_program_is_not_taken() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needs_libraries(&own));
        assert!(needs_libraries(b"#!/bin/sh\n") && needs_libraries(b"") && needs_libraries(&own[..40]));
        // The same program, had it no interpreter.
        let mut changed = own.clone();
        let headers = u64::from_le_bytes(own[32..40].try_into().unwrap()) as usize;
        let (size, count) = (usize::from(own[54]), usize::from(own[56]));
        for at in (0..count).map(|index| headers + index * size).filter(|at| own[*at] == 3) {
            changed[at] = 0;
        }
        assert!(!needs_libraries(&changed));
    }

    #[test]
    fn what_this_test_loads_is_found() {
        let libraries = libraries(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().any(|path| path.display().to_string().contains("libc.so")), "{libraries:?}");
        assert!(libraries.iter().all(|path| path.is_absolute() && path.is_file()), "{libraries:?}");
    }

    #[test]
    fn every_image_is_named_as_its_first_program_and_has_absolute_places() {
        for product in PRODUCTS {
            assert_eq!(product.programs[0].0, product.name);
            assert!(product.programs.iter().all(|(_, path)| !path.starts_with('/')));
        }
    }
}
