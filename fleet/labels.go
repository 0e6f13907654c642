package fleet

// Labels on pods and containers in Podman. The first group is the kubelet's, for tools that know it; the
// second is ours. Only what carries LabelUID and LabelOwner is ours to touch.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"

	LabelSource     = "skerry.dev/source"
	LabelRevision   = "skerry.dev/revision"
	LabelHash       = "skerry.dev/template-hash"
	LabelShape      = "skerry.dev/shape-hash"
	LabelOwner      = "skerry.dev/owner"
	LabelController = "skerry.dev/controller"
	LabelSetHash    = "skerry.dev/pod-template-hash"
	LabelStamp      = "skerry.dev/stamp"
	LabelIndex      = "skerry.dev/index"
	LabelClaims     = "skerry.dev/claim-templates"
	LabelService    = "skerry.dev/service"
	LabelDefaults   = "skerry.dev/defaults" // JSON of Defaults
	LabelCreated    = "skerry.dev/created"  // RFC 3339, UTC: the slot's Created

	LabelContainerHash = "skerry.dev/container-hash" // HashContainer: name and image
	LabelAttempt       = "skerry.dev/attempt"        // restarts before this container, decimal
	LabelBackoff       = "skerry.dev/backoff"        // how long its end is waited out before the next start
	LabelMessage       = "skerry.dev/termination"    // where in the container it says why it ended: policy, blank, path
	LabelPast          = "skerry.dev/past"           // of a pod: JSON of name → PastRun
)

// Labels on volumes in Podman that stand for PersistentVolumeClaims. A volume without LabelClaim is not ours.
const (
	LabelClaim     = "skerry.dev/claim" // namespace/name
	LabelClaimSize = "skerry.dev/size"  // what the claim asked for; nobody enforces it
)

// LabelBridge is on networks in Podman that are ours: their subnet.
const LabelBridge = "skerry.dev/bridge"

// LabelTemplateHash is the Kubernetes label on ReplicaSets of a Deployment and on their pods.
const LabelTemplateHash = "pod-template-hash"

// PodmanPod is the name of a pod in Podman. No Kubernetes name holds an underscore, so it is unambiguous.
func PodmanPod(id PodID) string { return id.Namespace + "_" + id.Name }

// PodmanContainer is the name of a pod's running container in Podman.
func PodmanContainer(id PodID, container string) string { return PodmanPod(id) + "_" + container }

// PodmanClaim is the name of a claim's volume in Podman. Volumes have names apart from those of pods.
func PodmanClaim(c ClaimID) string { return c.Namespace + "_" + c.Name }
