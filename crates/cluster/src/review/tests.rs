use super::*;
use crate::testing::{Answer, Fake, status};
use serde_json::json;

#[tokio::test]
async fn a_token_is_somebody_or_nobody() {
    let fake = Fake::start(|call| {
        let good = call.body["spec"]["token"] == "good";
        let user = json!({"username": "ann", "uid": "7", "groups": ["dev"], "extra": {"scopes": ["x"]}});
        Some(Answer::Json(201, json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": call.body["spec"],
            "status": if good { json!({"authenticated": true, "user": user, "audiences": ["sidewall"]}) } else { json!({"user": {}}) },
        })))
    })
    .await;
    let client = fake.client();
    let found = user(&client, Token::new("good"), &["sidewall".to_owned()]).await.unwrap();
    assert_eq!((found.name.as_str(), found.groups.as_slice()), ("ann", &["dev".to_owned()][..]));
    let nobody = user(&client, Token::new("bad"), &[]).await.unwrap_err();
    assert!(matches!(nobody, ReviewError::Nobody), "{nobody}");
    let elsewhere = user(&client, Token::new("good"), &["other".to_owned()]).await.unwrap_err();
    assert!(matches!(elsewhere, ReviewError::Nobody), "{elsewhere}");
    assert_eq!(format!("{:?}", Token::new("good")), "Token(…)");
}

#[tokio::test]
async fn flows_are_seen_where_the_api_server_says_so() {
    let fake = Fake::start(|call| {
        let attributes = &call.body["spec"]["resourceAttributes"];
        let asked =
            attributes["group"] == "sidewall.dev" && attributes["resource"] == "flows" && attributes["verb"] == "get";
        let allowed = asked && attributes["namespace"] == "shop" && call.body["spec"]["user"] == "ann";
        Some(Answer::Json(
            201,
            json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
                "spec": call.body["spec"], "status": {"allowed": allowed},
            }),
        ))
    })
    .await;
    let client = fake.client();
    let ann = User { name: "ann".to_owned(), ..User::default() };
    assert!(may_see_flows(&client, &ann, Some("shop")).await.unwrap());
    assert!(!may_see_flows(&client, &ann, Some("ops")).await.unwrap());
    assert!(!may_see_flows(&client, &ann, None).await.unwrap());
    fake.script(|_| Some(status(403, "Forbidden")));
    let error = may_see_flows(&client, &ann, Some("shop")).await.unwrap_err().to_string();
    assert!(error.contains("subjectaccessreviews"), "{error}");
    // A token is not told, whatever goes wrong.
    fake.script(|_| Some(Answer::Json(200, json!({"spec": {"token": 7}}))));
    let error = user(&client, Token::new("hush-hush"), &[]).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
}
