//! What the messages of the Agent Client Protocol hold, as far as omk reads it.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hello {
    #[serde(default)]
    pub(super) protocol_version: Option<Value>,
    #[serde(default)]
    pub(super) agent_info: AgentInfo,
}

#[derive(Default, Deserialize)]
pub(super) struct AgentInfo {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionResult {
    #[serde(default)]
    pub(super) session_id: Option<String>,
    #[serde(default)]
    pub(super) config_options: Vec<ConfigOption>,
    #[serde(default)]
    pub(super) modes: Option<Modes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Modes {
    #[serde(default)]
    pub(super) available_modes: Vec<Mode>,
}

#[derive(Deserialize)]
pub(super) struct Mode {
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigOption {
    pub(super) id: String,
    #[serde(default)]
    pub(super) current_value: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PromptResult {
    #[serde(default)]
    pub(super) stop_reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionUpdate<'a> {
    #[serde(default)]
    pub(super) session_id: String,
    #[serde(borrow)]
    pub(super) update: Update<'a>,
}

/// Every update has a kind and some of these. `content` is one block in a chunk and a list of them in a tool call.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Update<'a> {
    #[serde(rename = "sessionUpdate")]
    pub(super) kind: String,
    #[serde(borrow, default)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) tool_call_id: Option<String>,
    #[serde(default)]
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(borrow, default)]
    pub(super) raw_input: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) config_options: Option<Vec<ConfigOption>>,
}

impl Update<'_> {
    pub(super) fn chunk(&self) -> Option<String> {
        let text: Text = serde_json::from_str(self.content?.get()).ok()?;
        text.text
    }

    pub(super) fn blocks(&self) -> Vec<Block> {
        self.content
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default()
    }
}

/// A piece of what a tool call shows: text, or a change to a file.
#[derive(Deserialize)]
pub(super) struct Block {
    #[serde(default)]
    pub(super) content: Option<Text>,
    #[serde(default)]
    pub(super) path: Option<String>,
}

impl Block {
    pub(super) fn text(&self) -> Option<String> {
        self.content.as_ref()?.text.clone()
    }
}

#[derive(Deserialize)]
pub(super) struct Text {
    #[serde(default)]
    pub(super) text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PermissionRequest {
    #[serde(default)]
    pub(super) options: Vec<Choice>,
    pub(super) tool_call: ToolCall,
}

/// A text file that is to be read, or written if it has content.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TextFile {
    #[serde(default)]
    pub(super) session_id: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) content: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Choice {
    pub(super) option_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolCall {
    pub(super) tool_call_id: String,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) content: Vec<Block>,
}

impl ToolCall {
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.content.iter().filter_map(Block::text)
    }
}
