//! Jobs end although a proxy stands beside them.

use crate::{ROLLOUT, client, namespace, node, service};

/// `restartPolicy` and the rest of a Job's template, running a shell command.
fn template(command: &str) -> String {
    format!(
        "template:
    spec:
      restartPolicy: Never
      containers:
      - name: app
        image: causeway-test/app:1
        command: [sh, -c, '{command}']
"
    )
}

#[test]
fn a_job_completes_a_failing_job_fails_and_so_does_that_of_a_cron_job() {
    let Some(node) = node() else { return };
    let _told = node.told(&["jobs"]);
    node.apply(&(namespace("jobs") + &client("jobs", "web") + &service("jobs", "web", "app: web"))).unwrap();
    node.rolled_out("jobs", "deploy/web", ROLLOUT);
    // The first request of an application that has only just begun: the mesh is up before it.
    let calls = template("curl -sS -m 10 --fail-with-body http://web/headers");
    let fails = template("exit 3");
    let indented = calls.replace('\n', "\n    ");
    node.apply(&format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: calls, namespace: jobs}}
spec:
  backoffLimit: 0
  {calls}---
apiVersion: batch/v1
kind: Job
metadata: {{name: fails, namespace: jobs}}
spec:
  backoffLimit: 0
  {fails}---
apiVersion: batch/v1
kind: CronJob
metadata: {{name: nightly, namespace: jobs}}
spec:
  schedule: '0 3 * * *'
  jobTemplate:
    spec:
      backoffLimit: 0
      {indented}
"
    ))
    .unwrap();
    node.kubectl(&["-n", "jobs", "create", "job", "tonight", "--from=cronjob/nightly"]).unwrap();
    for (job, condition) in [("calls", "Complete"), ("tonight", "Complete"), ("fails", "Failed")] {
        node.wait(&["-n", "jobs", &format!("job/{job}")], &format!("condition={condition}"), ROLLOUT)
            .unwrap_or_else(|e| panic!("{job}: {e}"));
    }
    let seen = node.kubectl(&["-n", "jobs", "logs", "job/calls", "-c", "app"]).unwrap();
    assert!(seen.contains("URI=spiffe://cluster.local/ns/jobs/sa/default"), "{seen}");
    let pods = node.get(&["-n", "jobs", "pods", "-l", "batch.kubernetes.io/job-name=calls"]).unwrap();
    assert_eq!(pods["items"][0]["status"]["phase"], "Succeeded", "{}", pods["items"][0]["status"]);
}
