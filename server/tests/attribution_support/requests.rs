//! Attribution requests: Acme asks, Globex decides.

use overlap_proto::v1::{
    ApproveAttributionRequest, Attribution, AttributionState, CancelAttributionRequest,
    DenyAttributionRequest, GetAttributionRequest, ListReceivedAttributionsRequest,
    ListSentAttributionsRequest, RequestAttributionRequest,
    attribution_service_client::AttributionServiceClient,
};
use tonic::Status;

use super::{
    attributions,
    node_support::{Authorized, TestNode, eventually},
};

pub type Client = AttributionServiceClient<Authorized>;

pub async fn try_request(
    client: &mut Client,
    customer: &str,
    details: &str,
) -> Result<Attribution, Status> {
    request_with_id(client, customer, details, "").await
}

pub async fn request_with_id(
    client: &mut Client,
    customer: &str,
    details: &str,
    request_id: &str,
) -> Result<Attribution, Status> {
    let request = RequestAttributionRequest {
        partner: "globex".to_owned(),
        customer: customer.to_owned(),
        details: details.to_owned(),
        request_id: request_id.to_owned(),
    };
    Ok(client
        .request_attribution(request)
        .await?
        .into_inner()
        .attribution
        .unwrap())
}

pub async fn request(node: &TestNode, customer: &str) -> Attribution {
    try_request(
        &mut attributions(node).await,
        customer,
        "We made the introduction",
    )
    .await
    .unwrap()
}

pub async fn approve(node: &TestNode, id: &str, comment: &str) -> Result<Attribution, Status> {
    let request = ApproveAttributionRequest {
        partner: "Acme".to_owned(),
        id: id.to_owned(),
        comment: comment.to_owned(),
        request_id: String::new(),
    };
    let response = attributions(node)
        .await
        .approve_attribution(request)
        .await?;
    Ok(response.into_inner().attribution.unwrap())
}

pub async fn deny(node: &TestNode, id: &str, comment: &str) -> Result<Attribution, Status> {
    let request = DenyAttributionRequest {
        partner: "Acme".to_owned(),
        id: id.to_owned(),
        comment: comment.to_owned(),
        request_id: String::new(),
    };
    let response = attributions(node).await.deny_attribution(request).await?;
    Ok(response.into_inner().attribution.unwrap())
}

pub async fn cancel(node: &TestNode, id: &str) -> Result<Attribution, Status> {
    let request = CancelAttributionRequest {
        partner: "Globex".to_owned(),
        id: id.to_owned(),
        request_id: String::new(),
    };
    let response = attributions(node).await.cancel_attribution(request).await?;
    Ok(response.into_inner().attribution.unwrap())
}

pub async fn get(node: &TestNode, partner: &str, id: &str) -> Result<Attribution, Status> {
    let request = GetAttributionRequest {
        partner: partner.to_owned(),
        id: id.to_owned(),
    };
    let response = attributions(node).await.get_attribution(request).await?;
    Ok(response.into_inner().attribution.unwrap())
}

pub async fn sent(node: &TestNode) -> Vec<Attribution> {
    let request = ListSentAttributionsRequest {
        partner: "Globex".to_owned(),
        ..Default::default()
    };
    let response = attributions(node)
        .await
        .list_sent_attributions(request)
        .await
        .unwrap();
    response.into_inner().attributions
}

pub async fn received(node: &TestNode) -> Vec<Attribution> {
    let request = ListReceivedAttributionsRequest {
        partner: "Acme".to_owned(),
        ..Default::default()
    };
    let response = attributions(node)
        .await
        .list_received_attributions(request)
        .await
        .unwrap();
    response.into_inner().attributions
}

pub async fn arrives(node: &TestNode, id: &str) {
    eventually("the request arrives", || async {
        get(node, "Acme", id).await.is_ok()
    })
    .await;
}

pub async fn becomes(node: &TestNode, partner: &str, id: &str, state: AttributionState) {
    eventually("the state is known", || async {
        get(node, partner, id).await.unwrap().state() == state
    })
    .await;
}
