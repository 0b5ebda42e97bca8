#!/bin/sh
# What an administrator of an AKS cluster runs once, for helm/values/aks.yaml. Not run in CI.
#   GROUP=... CLUSTER=... k8s/gpu-nodepools/aks.sh
set -eu
: "${GROUP:?resource group}" "${CLUSTER:?name of the cluster}"
MACHINE=${MACHINE:-Standard_NC8as_T4_v3}
MAX=${MAX:-4}
here=$(dirname "$0")

az aks nodepool add --resource-group "$GROUP" --cluster-name "$CLUSTER" --name gpu --node-vm-size "$MACHINE" \
    --node-taints sku=gpu:NoSchedule --enable-cluster-autoscaler --node-count 0 --min-count 0 --max-count "$MAX" \
    --node-osdisk-size 200

# AKS installs the driver. The device plugin, which makes the GPUs known to Kubernetes:
helm upgrade --install nvdp nvidia-device-plugin --repo https://nvidia.github.io/k8s-device-plugin \
    --namespace kube-system --set-json 'tolerations=[{"key": "sku", "operator": "Exists"}]'

# An NFS share for results: helm/values/aks.yaml uses this class.
kubectl apply -f "$here/aks.yaml"

# A NetworkPolicy is only enforced in a cluster made with --network-policy (azure, calico or cilium).
