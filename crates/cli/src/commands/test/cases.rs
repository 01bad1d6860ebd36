//! The file of expectations.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sidewall_api::load::SourceText;
use sidewall_api::{Diagnostic, Severity};
use sidewall_flow::{Action, Protocol};

use crate::args::IdentityChoice;
use crate::error::Error;
use crate::inputs;

/// Expectations about the flows of one pod. File names are relative to the file that names them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cases {
    /// The file with the Pod.
    pub pod: PathBuf,
    /// Which Pod of the file, where it has several.
    #[serde(default)]
    pub pod_name: Option<String>,
    /// The files with policies.
    #[serde(default)]
    pub policies: Vec<PathBuf>,
    /// How containers are told apart.
    #[serde(default)]
    pub identity: IdentityWord,
    /// Names for addresses on the network.
    #[serde(default)]
    pub peers: BTreeMap<String, IpAddr>,
    /// The expectations.
    pub cases: Vec<Case>,
}

/// One expectation.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// Who opens the flow.
    pub from: String,
    /// Who is to answer it.
    pub to: String,
    /// The port.
    pub port: PortWord,
    /// The protocol; that of a named port, else TCP.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// What should come of it.
    pub expect: Expectation,
}

/// A port's number or name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum PortWord {
    /// Its number.
    Number(u16),
    /// Its name.
    Name(String),
}

impl PortWord {
    /// As it is written on the command line.
    pub fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name.clone(),
        }
    }
}

/// What should come of a flow.
#[derive(Clone, Copy, Debug, Deserialize)]
pub enum Expectation {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
}

impl From<Expectation> for Action {
    fn from(expectation: Expectation) -> Self {
        match expectation {
            Expectation::Allow => Self::Allow,
            Expectation::Deny => Self::Deny,
        }
    }
}

/// How containers are told apart.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityWord {
    /// By cgroup.
    #[default]
    Cgroup,
    /// By user.
    Uid,
    /// By group.
    Gid,
}

impl From<IdentityWord> for IdentityChoice {
    fn from(word: IdentityWord) -> Self {
        match word {
            IdentityWord::Cgroup => Self::Cgroup,
            IdentityWord::Uid => Self::Uid,
            IdentityWord::Gid => Self::Gid,
        }
    }
}

impl Cases {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Input`] with the place of the first fault.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let bytes = inputs::bytes(file)?;
        let name = file.display().to_string();
        let fault = |message: String| Error::Input(vec![Diagnostic::of_file(&name, Severity::Error, message)]);
        if bytes.len() > sidewall_api::load::FILE_MAX {
            return Err(fault(format!("the file is longer than {} octets", sidewall_api::load::FILE_MAX)));
        }
        let text = String::from_utf8(bytes).map_err(|_| fault("the file is no UTF-8 text".to_owned()))?;
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
            let source = Arc::new(SourceText::new(&name, &text));
            let at = error.location().map_or(0, |at| offset(source.text(), at.line(), at.column()));
            // What comes after the first line of the message is the place again.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default().to_owned();
            Error::Input(vec![source.diagnostic(at..at, Severity::Error, None, message)])
        })
    }

    /// A file that the cases name.
    pub fn beside(&self, own: &Path, file: &Path) -> PathBuf {
        own.parent().map_or_else(|| file.to_owned(), |directory| directory.join(file))
    }
}

/// A place in octets from one in lines and columns, both from 1.
fn offset(text: &str, line: u64, column: u64) -> usize {
    let skip = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(skip(line)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.chars().take(skip(column)).map(char::len_utf8).sum::<usize>()
}
