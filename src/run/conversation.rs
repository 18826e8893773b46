//! Conversations with a service, which keeps none itself: every turn sends the earlier ones again.
//!
//! One JSON file for each, of mode 0600, replaced as a whole after each turn. A turn has what it sent and cost, so that a
//! reader sees how much of it was history and how much of that the service's cache covered.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::llm::client::Turn;
use crate::llm::types::Role;
use crate::runtime::file;

/// The largest conversation: far above any window.
const LARGEST: u64 = 256 * 1024 * 1024;
/// What the name of a file ends with.
const ENDING: &str = "json";

/// A question and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Exchange {
    /// When it was answered, RFC 3339 in UTC.
    pub at: String,
    /// The question.
    pub user: String,
    /// The answer.
    pub assistant: String,
    /// The run in the ledger.
    pub run_id: String,
    /// The model that answered.
    pub model: Option<String>,
    /// Tokens of the earlier turns, counted by omk.
    pub history_tokens: u64,
    /// Tokens of the whole prompt, as the service reported; `None` where it did not.
    pub input_tokens: Option<u64>,
    /// Those of them that came from the service's cache.
    pub cached_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
    /// The cost, as a decimal; `None` where it is not known.
    pub usd: Option<String>,
}

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Conversation {
    /// Its name.
    pub name: String,
    /// The service.
    pub peer: String,
    /// The model that is asked where a turn names no other.
    pub model: Option<String>,
    /// The instructions.
    pub system: Option<String>,
    /// The turns, oldest first.
    pub turns: Vec<Exchange>,
}

impl Conversation {
    /// The earlier turns as messages.
    pub fn history(&self) -> Vec<Turn> {
        let turns = self
            .turns
            .iter()
            .flat_map(|turn| [(Role::User, &turn.user), (Role::Assistant, &turn.assistant)]);
        turns
            .map(|(role, text)| Turn {
                role,
                text: text.clone(),
            })
            .collect()
    }
}

/// The directory of a user's conversations.
#[derive(Clone, Debug)]
pub struct Conversations {
    directory: PathBuf,
}

impl Conversations {
    /// Those in this directory, which need not be there.
    pub fn new(directory: PathBuf) -> Conversations {
        Conversations { directory }
    }

    /// The file of a conversation.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.{ENDING}"))
    }

    /// A conversation; `None` if there is none of that name.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is something else.
    pub fn read(&self, name: &str) -> io::Result<Option<Conversation>> {
        let bytes = match file::read_regular(&self.path(name), LARGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let conversation: Conversation = serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(conversation))
    }

    /// The names of all, with the moment of the last turn; the newest first.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<(String, SystemTime)>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some(name), true) = (name, is_conversation(&path)) {
                let modified = fs::metadata(&path)?.modified()?;
                names.push((name.to_string(), modified));
            }
        }
        names.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
        Ok(names)
    }

    /// Removes a conversation. Says whether there was one.
    ///
    /// # Errors
    ///
    /// The file cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_conversation(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_become_messages_in_order() {
        let mut conversation = Conversation::default();
        for (user, assistant) in [("a", "b"), ("c", "d")] {
            conversation.turns.push(Exchange {
                user: user.to_string(),
                assistant: assistant.to_string(),
                ..Exchange::default()
            });
        }
        let said: Vec<(Role, String)> = conversation
            .history()
            .into_iter()
            .map(|turn| (turn.role, turn.text))
            .collect();
        let expected = [
            (Role::User, "a"),
            (Role::Assistant, "b"),
            (Role::User, "c"),
            (Role::Assistant, "d"),
        ];
        assert_eq!(said, expected.map(|(role, text)| (role, text.to_string())));
    }

    #[test]
    fn what_is_kept_is_listed_read_and_removed() {
        let name = format!("omk-conversations-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let conversations = Conversations::new(directory.clone());
        assert_eq!(conversations.names().unwrap(), []);
        assert_eq!(conversations.read("a").unwrap(), None);
        fs::create_dir_all(&directory).unwrap();
        let kept = Conversation {
            name: "a".to_string(),
            ..Conversation::default()
        };
        fs::write(conversations.path("a"), serde_json::to_vec(&kept).unwrap()).unwrap();
        fs::write(directory.join("b.txt"), "").unwrap();
        assert_eq!(conversations.read("a").unwrap(), Some(kept));
        let names = conversations.names().unwrap();
        assert_eq!((names.len(), names[0].0.as_str()), (1, "a"));
        fs::write(conversations.path("c"), "{").unwrap();
        assert!(conversations.read("c").is_err());
        assert!(conversations.remove("c").unwrap() && !conversations.remove("c").unwrap());
        fs::remove_dir_all(&directory).unwrap();
    }
}
