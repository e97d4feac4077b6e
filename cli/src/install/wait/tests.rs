use super::*;
use kube::core::Status;
use serde_json::Value;

fn deployment(status: &Value) -> Deployment {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "generation": 2},
        "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status,
    }))
    .expect("a Deployment")
}

fn waiting(look: Look) -> String {
    match look {
        Look::Waiting(why) => why,
        Look::Done(said) => panic!("done: {said}"),
    }
}

#[test]
fn a_rollout_is_done_when_the_new_ones_are_ready_and_the_old_ones_gone() {
    let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert_eq!(rollout(&deployment(&done), None), Look::Done("2/2 control planes ready".to_owned()));

    let unseen = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert!(waiting(rollout(&deployment(&unseen), None)).contains("not looked at yet"));
    let older = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3});
    assert!(waiting(rollout(&deployment(&older), None)).ends_with("an older one is still going"));
    let half = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 3});
    assert_eq!(waiting(rollout(&deployment(&half), Some("p: x".to_owned()))), "1/2 control planes ready: p: x");
    let refused = json!({"observedGeneration": 2, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]});
    assert!(waiting(rollout(&deployment(&refused), None)).ends_with("exceeded quota"));
}

#[test]
fn a_pods_trouble_is_named() {
    let pod = |status: Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("a Pod")
    };
    let container = |state: Value| {
        json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "",
        "ready": false, "restartCount": 0, "state": state}]})
    };
    let said = trouble(&pod(container(json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}}))), 100);
    assert_eq!(said.as_deref(), Some("p: ErrImagePull: not found"));
    assert_eq!(trouble(&pod(container(json!({"waiting": {"reason": "ContainerCreating"}}))), 100), None);
    let said =
        trouble(&pod(container(json!({"running": {"startedAt": "1970-01-01T00:00:01Z"}}))), 100).expect("not ready");
    assert!(said.contains("kubectl -n causeway-system logs p"), "{said}");
    let said =
        trouble(&pod(json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]})), 100);
    assert_eq!(said.as_deref(), Some("p: no node"));
}

#[test]
fn only_a_refusal_that_says_so_means_that_nobody_answers() {
    let refused = |code, message: &str| -> kube::Result<()> {
        Err(kube::Error::Api(Box::new(Status { code, message: message.to_owned(), ..Status::default() })))
    };
    assert!(matches!(answered(&[Ok(()), Ok(())]), Look::Done(_)));
    assert!(matches!(answered(&[refused(403, "violates PodSecurity \"restricted:latest\"")]), Look::Done(_)));
    let away = "Internal error occurred: failed calling webhook \"x\": connection refused";
    assert_eq!(waiting(answered(&[Ok(()), refused(500, away)])), away);
    let unknown = "this pod asks for injection and was not injected";
    assert_eq!(waiting(answered(&[refused(403, unknown)])), unknown);
}
