//! What `causeway check` finds: one line each, in groups, and the exit code that follows. Printing is left to `report`.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Good,
    /// Nothing wrong, worth knowing.
    Note,
    /// Works, but somebody should look at it.
    Warning,
    /// It cannot be told.
    Unknown,
    /// Wrong.
    Problem,
}

/// Where a finding is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The cluster itself.
    Kubernetes,
    /// What was installed.
    ControlPlane,
    /// The CA and what it issued.
    Certificates,
    /// Pods and their proxies.
    Workloads,
    /// Our custom resources.
    Configuration,
}

impl Group {
    /// As a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::ControlPlane => "Control plane",
            Self::Certificates => "Certificates",
            Self::Workloads => "Workloads",
            Self::Configuration => "Configuration",
        }
    }
}

/// One check and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it is printed.
    pub group: Group,
    /// A stable name for scripts, e.g. `api_version`.
    pub check: &'static str,
    /// How it ended.
    pub mark: Mark,
    /// What was seen, in one line.
    pub text: String,
    /// Which objects, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// What to do, where there is something to do: words or a command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// Collects the findings of one group.
pub struct Findings {
    group: Group,
    /// In order.
    pub all: Vec<Finding>,
}

impl Findings {
    /// None yet.
    pub fn of(group: Group) -> Self {
        Self { group, all: Vec::new() }
    }

    fn push(&mut self, check: &'static str, mark: Mark, text: impl Into<String>) -> &mut Finding {
        let finding = Finding { group: self.group, check, mark, text: text.into(), items: Vec::new(), cure: None };
        self.all.push(finding);
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    /// As it should be.
    pub fn good(&mut self, check: &'static str, text: impl Into<String>) {
        self.push(check, Mark::Good, text);
    }

    /// Worth knowing.
    pub fn note(&mut self, check: &'static str, text: impl Into<String>) {
        self.push(check, Mark::Note, text);
    }

    /// Somebody should look at it.
    pub fn warning(&mut self, check: &'static str, text: impl Into<String>, cure: impl Into<String>) -> &mut Finding {
        let finding = self.push(check, Mark::Warning, text);
        finding.cure = Some(cure.into());
        finding
    }

    /// Wrong.
    pub fn problem(&mut self, check: &'static str, text: impl Into<String>, cure: impl Into<String>) -> &mut Finding {
        let finding = self.push(check, Mark::Problem, text);
        finding.cure = Some(cure.into());
        finding
    }

    /// It cannot be told, and why.
    pub fn unknown(&mut self, check: &'static str, what: &str, why: &str) {
        self.push(check, Mark::Unknown, format!("{what}: {why}"));
    }

    /// The fact, or None after it was noted that it is not known.
    pub fn known<'f, T>(&mut self, check: &'static str, what: &str, fact: &'f Result<T, String>) -> Option<&'f T> {
        match fact {
            Ok(fact) => Some(fact),
            Err(why) => {
                self.unknown(check, what, why);
                None
            }
        }
    }
}

/// 0: all is well (warnings included); 1: something is wrong; 2: nothing is known to be wrong, but not all can be told.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.mark).max() {
        Some(Mark::Problem) => 1,
        Some(Mark::Unknown) => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_outweighs_what_cannot_be_told_and_warnings_do_not_fail() {
        let mut findings = Findings::of(Group::Kubernetes);
        findings.good("a", "fine");
        findings.warning("b", "hm", "look");
        assert_eq!(exit_code(&findings.all), 0);
        findings.unknown("c", "the nodes", "forbidden");
        assert_eq!(exit_code(&findings.all), 2);
        findings.problem("d", "wrong", "mend it");
        findings.good("e", "fine");
        assert_eq!(exit_code(&findings.all), 1);
        assert_eq!(exit_code(&[]), 0);
    }
}
