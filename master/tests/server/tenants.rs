//! Tenants that the admin adds over the network, and what a restarted master still knows of them.

use crate::support::*;
use offshoot_net::{Credential, Role, RoleKind};
use offshoot_proto::cluster::{FromClient, ToClient};
use offshoot_proto::frame;
use offshoot_proto::hello::Purpose;
use offshoot_proto::tenant::{TenantChange, TenantOrder, TenantRow};

async fn list(master: &TestMaster) -> Vec<TenantRow> {
    match master.order(TenantOrder::List).await {
        ToClient::Tenants(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn add(name: &str, weight: u32) -> TenantOrder {
    let rules = TenantChange { weight: Some(weight), ..TenantChange::default() };
    TenantOrder::Add { name: name.to_owned(), rules }
}

#[tokio::test]
async fn a_new_tenant_comes_in_with_the_credential_that_the_admin_was_given() {
    let master = TestMaster::start().await;
    let ToClient::TenantAdded { credential } = master.order(add("ada", 3)).await else {
        panic!("not added")
    };
    let credential: Credential = frame::from_bytes(&credential).unwrap();
    assert_eq!(*credential.role(), Role::Tenant("ada".to_owned()));
    let ada = Peer::bind(&master, credential).await;
    ada.control().await.register(1, app(b"module")).await;
    let rows = list(&master).await;
    let shown: Vec<_> =
        rows.iter().map(|row| (&row.name[..], row.rules.weight, row.submitted)).collect();
    assert_eq!(shown, [("ada", 3, 1), ("admin", 1, 0)]);
    let order = FromClient::Tenants(TenantOrder::List);
    let refused = ada.control().await.ask(order).await;
    assert!(matches!(refused, ToClient::Refused { .. }), "{refused:?}");
}

#[tokio::test]
async fn tenants_and_their_rules_outlive_the_master() {
    let master = TestMaster::start().await;
    master.order(add("ada", 3)).await;
    master.order(add("bob", 1)).await;
    let rules = TenantChange { cores_max: Some(Some(8)), ..TenantChange::default() };
    let set = TenantOrder::Set { name: "ada".to_owned(), rules };
    assert_eq!(master.order(set).await, ToClient::Done);
    let remove = TenantOrder::Remove { name: "bob".to_owned() };
    assert_eq!(master.order(remove).await, ToClient::Done);
    let before = list(&master).await;
    let master = master.restart().await;
    assert_eq!(list(&master).await, before);
    let again = master.order(add("bob", 1)).await;
    assert!(matches!(&again, ToClient::Refused { reason } if reason.contains("another name")));
    let bob = master.peer(Role::Tenant("bob".to_owned())).await;
    let refused =
        bob.endpoint.connect(master.master.local_address(), RoleKind::Master, Purpose::Data);
    let refused = refused.await.expect_err("is let in").to_string();
    assert!(refused.contains("tenant bob is not let in"), "{refused}");
}
