//! Shows the board while the demo runs: a picture that is drawn anew in place, or plain lines.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::interval;

use super::board::{Board, Facts, Identities};
use super::picture::{COLUMNS, ROWS, draw, minutes};
use crate::terminal::{self, Style};

const FRAME: Duration = Duration::from_millis(100);
/// Frames between two plain lines about the split.
const PLAIN_EVERY: u32 = 20;

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Terminals that know it show a frame only when it is whole; others ignore it.
const BEGIN_FRAME: &str = "\x1b[?2026h";
const END_FRAME: &str = "\x1b[?2026l";
const CLEAR_TO_END_OF_LINE: &str = "\x1b[K";

/// Draws on one output.
pub(super) struct Painter<'a> {
    out: &'a mut dyn Write,
    style: Style,
    is_live: bool,
    is_drawn: bool,
    notes_shown: usize,
    are_identities_shown: bool,
}

impl<'a> Painter<'a> {
    /// A painter; live when standard output is a terminal that is large enough and nobody asked for plain lines.
    pub(super) fn new(plain: bool, style: Style, out: &'a mut dyn Write) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let fits = terminal::size()
            .is_some_and(|(columns, rows)| usize::from(columns) > COLUMNS - 1 && usize::from(rows) > ROWS);
        Self {
            out,
            style,
            is_live: fits && !plain && !dumb,
            is_drawn: false,
            notes_shown: 0,
            are_identities_shown: false,
        }
    }

    /// The output, for what comes after the picture.
    pub(super) fn out(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Shows `board` again and again; returns only when the output cannot be written.
    pub(super) async fn run(&mut self, board: &Board) -> io::Error {
        let mut ticks = interval(FRAME);
        for frame in 0u32.. {
            ticks.tick().await;
            if let Err(error) = self.show(&board.facts(), frame.is_multiple_of(PLAIN_EVERY)) {
                return error;
            }
        }
        io::Error::other("the clock of the picture ended")
    }

    /// Shows the last state and gives the terminal back.
    pub(super) fn finish(&mut self, board: &Board) -> io::Result<()> {
        self.show(&board.facts(), false)?;
        if self.is_live {
            self.out.write_all(SHOW_CURSOR.as_bytes())?;
        }
        self.is_drawn = false;
        self.notes_shown = 0;
        self.are_identities_shown = false;
        self.out.flush()
    }

    fn show(&mut self, facts: &Facts, with_share: bool) -> io::Result<()> {
        if self.is_live { self.redraw(facts) } else { self.append(facts, with_share) }
    }

    fn redraw(&mut self, facts: &Facts) -> io::Result<()> {
        let mut frame = String::from(BEGIN_FRAME);
        frame.push_str(HIDE_CURSOR);
        if self.is_drawn {
            frame.push_str(&format!("\x1b[{ROWS}A\r"));
        }
        for line in draw(facts, self.style) {
            frame.push_str(&line);
            frame.push_str(CLEAR_TO_END_OF_LINE);
            frame.push_str("\r\n");
        }
        frame.push_str(END_FRAME);
        self.is_drawn = true;
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }

    fn append(&mut self, facts: &Facts, with_share: bool) -> io::Result<()> {
        for note in facts.notes.iter().skip(self.notes_shown) {
            writeln!(self.out, "{}  {}", minutes(note.at), note.text)?;
        }
        self.notes_shown = facts.notes.len();
        let Identities { caller, stable, canary } = &facts.identities;
        if let (false, Some(caller), Some(stable), Some(canary)) = (self.are_identities_shown, caller, stable, canary) {
            let now = minutes(crate::clock::now().duration_since(facts.began));
            for (who, id) in [("caller   ", caller), ("v1-stable", stable), ("v1-canary", canary)] {
                writeln!(self.out, "{now}  {who} proved to be {id}")?;
            }
            self.are_identities_shown = true;
        }
        if let Some(epoch) = facts.epochs.last().filter(|e| with_share && e.share.total() > 0) {
            let canary = epoch.share.of_canary() * 100.0;
            writeln!(
                self.out,
                "{}  weights {}/{}: stable {:.1} %, canary {canary:.1} % of {} requests, {} failed",
                minutes(crate::clock::now().duration_since(facts.began)),
                epoch.weights.stable,
                epoch.weights.canary,
                100.0 - canary,
                epoch.share.total(),
                facts.failed
            )?;
        }
        self.out.flush()
    }
}

impl Drop for Painter<'_> {
    fn drop(&mut self) {
        if self.is_live {
            // The terminal is gone when this fails.
            let _ = self.out.write_all(SHOW_CURSOR.as_bytes());
            let _ = self.out.flush();
        }
    }
}
