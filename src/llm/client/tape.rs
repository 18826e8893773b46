//! Agents that are recorded, and agents on a tape, as launchers: what a tape is, [`crate::transport::tape`] says.
//!
//! Every client has two ways to it: `recorded` wraps the peer that it has, and `replay` makes a client that has none. A
//! replay starts nothing, waits for nothing and costs nothing; [`Player::finish`] says afterwards whether it was the run on
//! the tape.

use std::time::Duration;

use crate::llm::client::agent::Launch;
use crate::transport::child::Exit;
use crate::transport::link::LinkError;
use crate::transport::tape::PlayedLink;
use crate::transport::tape::Player;
use crate::transport::tape::RecordedLink;
use crate::transport::tape::Recorder;

/// A launcher whose agents are recorded.
#[derive(Debug)]
pub struct Recorded<L> {
    launcher: L,
    recorder: Recorder,
}

impl<L: Launch> Recorded<L> {
    /// The same launcher, recorded.
    pub fn new(launcher: L, recorder: &Recorder) -> Recorded<L> {
        Recorded {
            launcher,
            recorder: recorder.clone(),
        }
    }
}

impl<L: Launch> Launch for Recorded<L> {
    type Link = RecordedLink<L::Link>;

    /// An agent that does not start says nothing, so that is not on the tape.
    fn launch(&mut self) -> Result<Self::Link, LinkError> {
        let link = self.launcher.launch()?;
        Ok(self.recorder.link(link))
    }

    fn stop(&mut self, link: &mut Self::Link, grace: Duration) -> Option<Exit> {
        let exit = self.launcher.stop(link.inner(), grace);
        self.recorder.note_exit(exit.as_ref());
        exit
    }
}

impl Launch for Player {
    type Link = PlayedLink;

    fn launch(&mut self) -> Result<PlayedLink, LinkError> {
        self.start()
    }

    fn stop(&mut self, _: &mut PlayedLink, _: Duration) -> Option<Exit> {
        Player::stop(self)
    }
}

#[cfg(test)]
mod tests;
