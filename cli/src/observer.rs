//! What a person sees of a running job: bars on a terminal, little elsewhere.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use offshoot_driver::Observer;
use offshoot_driver::dag::ProgressState;
use offshoot_driver::scheduler::StageProgress;
use offshoot_proto::id::{AppId, StageRunId};
use offshoot_proto::waiting::WaitReason;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Shows progress on standard error, and passes the guest's output through.
pub(crate) struct Terminal {
    bars: MultiProgress,
    stages: BTreeMap<StageRunId, ProgressBar>,
    /// How many executors there are, while there are or should be any.
    executors: Option<ProgressBar>,
    style: ProgressStyle,
    is_terminal: bool,
    master: bool,
}

// === impl Terminal ===

impl Terminal {
    /// For a job on a cluster with a master of its own, or in this process.
    pub(crate) fn new(master: bool) -> Self {
        let style = ProgressStyle::with_template(
            "stage {prefix:>3} [{bar:30}] {pos}/{len} {elapsed:>4} {msg}",
        );
        Self {
            bars: MultiProgress::new(),
            stages: BTreeMap::new(),
            executors: None,
            style: style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "),
            is_terminal: std::io::stderr().is_terminal(),
            master,
        }
    }

    fn say(&self, text: &str) {
        if self.is_terminal {
            // A line above the bars. A terminal that is gone needs none.
            let _ = self.bars.println(text);
        } else {
            eprintln!("{text}");
        }
    }
}

impl Observer for Terminal {
    fn output(&mut self, stream: u8, bytes: &[u8]) {
        // Whoever reads it may have gone; the job goes on, as in a shell's pipe.
        let write = || {
            let _ = if stream == 1 {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            } else {
                std::io::stderr().lock().write_all(bytes)
            };
        };
        if self.is_terminal { self.bars.suspend(write) } else { write() }
    }

    fn registered(&mut self, app: AppId) {
        if self.master {
            tracing::info!(%app, "registered");
        }
    }

    fn waiting(&mut self, reason: &WaitReason) {
        let text = offshoot_driver::one_line(&reason.to_string());
        self.say(&format!("offshoot: waiting: {text}"));
    }

    fn progress(&mut self, progress: &StageProgress) {
        if !self.is_terminal {
            return;
        }
        let bar = self.stages.entry(progress.stage).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(u64::from(progress.total)));
            bar.set_style(self.style.clone());
            bar.set_prefix(progress.stage.to_string());
            let name: String = progress.name.escape_debug().collect();
            let source: String = progress.source.escape_debug().collect();
            bar.set_message(format!("{name} ({source})"));
            bar
        });
        bar.set_position(u64::from(progress.done));
        if progress.state == ProgressState::Ended {
            bar.finish_and_clear();
            self.stages.remove(&progress.stage);
        }
    }

    fn executors(&mut self, at: Duration, wanted: u32, running: u32) {
        let text = format!("executors: wanted {wanted}, running {running}");
        tracing::info!("{text}, after {:.3} s", at.as_secs_f64());
        if !self.is_terminal {
            return;
        }
        if wanted == 0 && running == 0 {
            if let Some(bar) = self.executors.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = self.executors.get_or_insert_with(|| {
            let bar = self.bars.insert(0, ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        bar.set_message(text);
    }

    fn notice(&mut self, text: &str) {
        self.say(&format!("offshoot: {}", offshoot_driver::one_line(text)));
    }
}
