#!/bin/sh
# What an administrator of a GKE cluster runs once, for helm/values/gke.yaml. Not run in CI.
#   CLUSTER=... REGION=... k8s/gpu-nodepools/gke.sh
# GKE installs the driver and the device plugin, taints the nodes with nvidia.com/gpu=present:NoSchedule and labels them
# with cloud.google.com/gke-accelerator; the chart tolerates the first and asks for the second.
set -eu
: "${CLUSTER:?name of the cluster}" "${REGION:?its region}"
MACHINE=${MACHINE:-g2-standard-8}
GPU=${GPU:-nvidia-l4}
MAX=${MAX:-4}

gcloud container node-pools create trainer-gpu --cluster "$CLUSTER" --region "$REGION" \
    --machine-type "$MACHINE" --accelerator "type=$GPU,count=1,gpu-driver-version=default" \
    --enable-autoscaling --total-min-nodes 0 --total-max-nodes "$MAX" --location-policy ANY \
    --disk-size 200 --enable-image-streaming

# Spot nodes, which are cheaper and can be taken away: pools.gpu.spot.enabled=true
gcloud container node-pools create trainer-gpu-spot --cluster "$CLUSTER" --region "$REGION" --spot \
    --machine-type "$MACHINE" --accelerator "type=$GPU,count=1,gpu-driver-version=default" \
    --enable-autoscaling --total-min-nodes 0 --total-max-nodes "$MAX" --location-policy ANY \
    --node-taints cloud.google.com/gke-spot=true:NoSchedule --disk-size 200 --enable-image-streaming

# A NetworkPolicy is only enforced with Dataplane V2, or
#   gcloud container clusters update "$CLUSTER" --region "$REGION" --enable-network-policy
