package manifest

const (
	ownPods     = "cannot be done: a Job has the pods that it made, and takes over no others"
	onlyMetrics = "cannot be done: there are no metrics here but CPU and memory of pods"
)

// statefulSetFields has every field of appsv1.StatefulSetSpec. Paths are below the spec, here and in the tables that
// follow; what podCheck and claimCheck look at is done as a whole.
var statefulSetFields = fieldTable{
	{path: "replicas"},
	{path: "selector/..."},
	{path: "template/..."},
	{path: "volumeClaimTemplates/..."},
	{path: "serviceName"},
	{path: "podManagementPolicy"},
	{path: "updateStrategy.type"},
	{path: "updateStrategy.rollingUpdate.partition"},
	{path: "updateStrategy.rollingUpdate.maxUnavailable", treatment: noted, quiet: "1", text: "has no effect: pods are replaced one at a time"},
	{path: "revisionHistoryLimit"},
	{path: "minReadySeconds"},
	{path: "persistentVolumeClaimRetentionPolicy.whenDeleted"},
	{path: "persistentVolumeClaimRetentionPolicy.whenScaled"},
	{path: "ordinals.start"},
}

// daemonSetFields has every field of appsv1.DaemonSetSpec.
var daemonSetFields = fieldTable{
	{path: "selector/..."},
	{path: "template/..."},
	{path: "updateStrategy.type"},
	{path: "updateStrategy.rollingUpdate.maxUnavailable"},
	{path: "updateStrategy.rollingUpdate.maxSurge"},
	{path: "minReadySeconds"},
	{path: "revisionHistoryLimit"},
}

// jobFields has every field of batchv1.JobSpec.
var jobFields = fieldTable{
	{path: "parallelism"},
	{path: "completions"},
	{path: "activeDeadlineSeconds"},
	{path: "podFailurePolicy.rules[].action"},
	{path: "podFailurePolicy.rules[].onExitCodes.containerName"},
	{path: "podFailurePolicy.rules[].onExitCodes.operator"},
	{path: "podFailurePolicy.rules[].onExitCodes.values"},
	{path: "podFailurePolicy.rules[].onPodConditions[].type"},
	{path: "podFailurePolicy.rules[].onPodConditions[].status"},
	{path: "successPolicy.rules[].succeededIndexes"},
	{path: "successPolicy.rules[].succeededCount"},
	{path: "backoffLimit"},
	{path: "backoffLimitPerIndex"},
	{path: "maxFailedIndexes"},
	{path: "selector/..."}, // only with manualSelector
	{path: "manualSelector", treatment: refused, quiet: "false", text: ownPods},
	{path: "template/..."},
	{path: "ttlSecondsAfterFinished"},
	{path: "completionMode"},
	{path: "suspend"},
	{path: "podReplacementPolicy"},
	{path: "managedBy", treatment: refused, quiet: jobController, text: "cannot be done: nobody else here runs Jobs"},
}

// cronJobFields has every field of batchv1.CronJobSpec.
var cronJobFields = fieldTable{
	{path: "schedule"},
	{path: "timeZone"},
	{path: "startingDeadlineSeconds"},
	{path: "concurrencyPolicy"},
	{path: "suspend"},
	{path: "jobTemplate.metadata/..."},
	{path: "jobTemplate.spec/..."}, // jobFields
	{path: "successfulJobsHistoryLimit"},
	{path: "failedJobsHistoryLimit"},
}

// autoscalerFields has every field of autoscalingv2.HorizontalPodAutoscalerSpec.
var autoscalerFields = fieldTable{
	{path: "scaleTargetRef.kind"},
	{path: "scaleTargetRef.name"},
	{path: "scaleTargetRef.apiVersion"},
	{path: "minReplicas"},
	{path: "maxReplicas"},
	{path: "metrics[].type"},
	{path: "metrics[].object/...", treatment: refused, text: onlyMetrics},
	{path: "metrics[].pods/...", treatment: refused, text: onlyMetrics},
	{path: "metrics[].resource.name"},
	{path: "metrics[].resource.target/..."},
	{path: "metrics[].containerResource.name"},
	{path: "metrics[].containerResource.target/..."},
	{path: "metrics[].containerResource.container"},
	{path: "metrics[].external/...", treatment: refused, text: onlyMetrics},
	{path: "behavior.scaleUp.stabilizationWindowSeconds"},
	{path: "behavior.scaleUp.selectPolicy"},
	{path: "behavior.scaleUp.policies/..."},
	{path: "behavior.scaleUp.tolerance"},
	{path: "behavior.scaleDown.stabilizationWindowSeconds"},
	{path: "behavior.scaleDown.selectPolicy"},
	{path: "behavior.scaleDown.policies/..."},
	{path: "behavior.scaleDown.tolerance"},
}

// budgetFields has every field of policyv1.PodDisruptionBudgetSpec.
var budgetFields = fieldTable{
	{path: "minAvailable"},
	{path: "maxUnavailable"},
	{path: "selector/..."},
	{path: "unhealthyPodEvictionPolicy"},
}

// quotaFields has every field of corev1.ResourceQuotaSpec. Which resources and scopes are done is said by checker.quota.
var quotaFields = fieldTable{
	{path: "hard"},
	{path: "scopes"},
	{path: "scopeSelector.matchExpressions[].scopeName"},
	{path: "scopeSelector.matchExpressions[].operator"},
	{path: "scopeSelector.matchExpressions[].values"},
}

// limitRangeFields has every field of corev1.LimitRangeSpec. Which resources are done is said by limitResource.
var limitRangeFields = fieldTable{
	{path: "limits[].type"},
	{path: "limits[].max"},
	{path: "limits[].min"},
	{path: "limits[].default"},
	{path: "limits[].defaultRequest"},
	{path: "limits[].maxLimitRequestRatio"},
}
