package scheduler

// Code is a reason. The list is closed: users and tools may rely on it.
type Code string

// Reasons for selecting a cluster.
const (
	// CodeExplicitTarget: the user named the cluster.
	CodeExplicitTarget Code = "ExplicitTarget"
	// CodeBestAvailability: the cluster belongs to the best set of that size.
	CodeBestAvailability Code = "BestAvailability"
	// CodeBestTogether: others are up more often, but fail together with the
	// chosen ones.
	CodeBestTogether Code = "BestTogether"
	// CodeCheapest: others are up more often, but the chosen ones cost less.
	CodeCheapest Code = "Cheapest"
	// CodeKeptCurrent: the deployment runs there already and the target can be
	// met without moving it.
	CodeKeptCurrent Code = "KeptCurrent"
)

// Reasons for not selecting a cluster that could be used.
const (
	// CodeNotNeeded: fewer clusters meet the target.
	CodeNotNeeded Code = "NotNeeded"
	// CodeSharedDomain: the cluster is up more often than one that was chosen, but
	// would go down together with another one.
	CodeSharedDomain Code = "SharedDomain"
	// CodeCostsMore: the cluster is up more often than one that was chosen, but the
	// chosen ones cost less together.
	CodeCostsMore Code = "CostsMore"
	// CodeTooFar: the cluster is not near one that was chosen, as the placement wants it.
	// A warning where the user named clusters that are too far apart.
	CodeTooFar Code = "TooFar"
	// CodeNotHelpful: taking the cluster as well does not meet the target, and
	// gives no better availability than the set that was chosen.
	CodeNotHelpful Code = "NotHelpful"
	// CodeOverLimit: the largest permitted number of clusters is used up.
	CodeOverLimit Code = "OverLimit"
)

// Reasons for rejecting a cluster.
const (
	// CodeUnknownCluster: it is in the available environments, but not known.
	CodeUnknownCluster Code = "UnknownCluster"
	// CodeNotInAvailableEnvs: the available environments leave it out.
	CodeNotInAvailableEnvs Code = "NotInAvailableEnvs"
	// CodeNotATarget: the user named other clusters.
	CodeNotATarget Code = "NotATarget"
	// CodeClusterDegraded: the cluster answers, but says that it has trouble.
	CodeClusterDegraded Code = "ClusterDegraded"
	// CodeClusterSuspect: the cluster has not been heard for a moment. A finding only.
	CodeClusterSuspect Code = "ClusterSuspect"
	// CodeClusterUnreachable: the cluster does not answer.
	CodeClusterUnreachable Code = "ClusterUnreachable"
	// CodeHealthUnknown: the cluster was not asked yet.
	CodeHealthUnknown Code = "HealthUnknown"
	// CodeAvailabilityInvalid: the availability is not a number within 0..1.
	CodeAvailabilityInvalid Code = "AvailabilityInvalid"
	// CodeNotAllowed: the placement names the clusters that are allowed, and it is
	// none of them.
	CodeNotAllowed Code = "NotAllowed"
	// CodeDenied: the placement denies the cluster.
	CodeDenied Code = "Denied"
	// CodeLabelMismatch: its labels are not those that the placement asks for.
	CodeLabelMismatch Code = "LabelMismatch"
	// CodeExpressionFalse: the expression of the placement is not true of it.
	CodeExpressionFalse Code = "ExpressionFalse"
	// CodeExpressionError: the expression has no answer for it, for example because
	// it asks for a label that the cluster does not have.
	CodeExpressionError Code = "ExpressionError"
	// CodeTaintNotTolerated: it has a taint that the placement does not tolerate.
	CodeTaintNotTolerated Code = "TaintNotTolerated"
	// CodeCordoned: it is given nothing new. A finding only about a cluster in which
	// the deployment runs.
	CodeCordoned Code = "Cordoned"
	// CodeDraining: what runs there is to leave it.
	CodeDraining Code = "Draining"
	// CodeCapabilityMissing: it cannot do, or is not, what the placement requires.
	CodeCapabilityMissing Code = "CapabilityMissing"
	// CodeOutOfCapacity: it has less room than the placement needs.
	CodeOutOfCapacity Code = "OutOfCapacity"
	// CodeQuotaExceeded: it has as many units as it may be given.
	CodeQuotaExceeded Code = "QuotaExceeded"
	// CodeTopologyUnknown: the deployment is to be spread over something that the
	// cluster does not say.
	CodeTopologyUnknown Code = "TopologyUnknown"
	// CodeTooNear: another deployment, from which it is to be apart, runs in the same
	// domain.
	CodeTooNear Code = "TooNear"
	// CodeTooExpensive: it costs more than the placement permits, or nobody said what
	// it costs.
	CodeTooExpensive Code = "TooExpensive"
)

// Findings and warnings.
const (
	// CodeAvailabilityAssumed: the cluster reports no availability.
	CodeAvailabilityAssumed Code = "AvailabilityAssumed"
	// CodeDomainUnknown: others say their region, the cluster does not.
	CodeDomainUnknown Code = "DomainUnknown"
	// CodeTaintPreferred: it has a taint that the placement does not tolerate, but
	// which only says that others are better.
	CodeTaintPreferred Code = "TaintPreferred"
	// CodeCapacityUnknown: nobody said how much room there is, so that it may be too
	// little.
	CodeCapacityUnknown Code = "CapacityUnknown"
	// CodeDomainsAssumed: the part of outages that clusters of a domain share is
	// an assumption.
	CodeDomainsAssumed Code = "DomainsAssumed"
	// CodeSearchEnded: there may be a better set than the one that was found.
	CodeSearchEnded Code = "SearchEnded"
	// CodeLimitingDomain: the set cannot be up more often than that domain.
	CodeLimitingDomain Code = "LimitingDomain"
	// CodeOutsideLocation: it is not where the deployment is to be available.
	CodeOutsideLocation Code = "OutsideLocation"
	// CodeDiscouraged: the cluster could be used, but others are preferred, by its
	// operators, for where they are, or as it is suspect, and these do.
	CodeDiscouraged Code = "Discouraged"
	// CodeMovesHeld: what would be better takes more clusters away than the placement
	// permits now.
	CodeMovesHeld Code = "MovesHeld"
	// CodeKeptDespite: there is a better set, which was passed over in order not to
	// move what runs.
	CodeKeptDespite Code = "KeptDespite"
	// CodeDegradedOnTheWay: between what runs and what is planned the availability is
	// lower than before, and than the target.
	CodeDegradedOnTheWay Code = "DegradedOnTheWay"
	// CodeNoAutoscaler: nothing in a cluster makes use of the room between the least and
	// the most pods of a function.
	CodeNoAutoscaler Code = "NoAutoscaler"
	// CodeVotersDiffer: the shards have another number of replicas than there are
	// clusters, which is what the availability is about then.
	CodeVotersDiffer Code = "VotersDiffer"
	// CodeVotersMissTarget: the clusters would meet the target, but the shards with their
	// number of replicas do not.
	CodeVotersMissTarget Code = "VotersMissTarget"
	// CodeTargetUnreachable: no permitted set of clusters meets the target.
	CodeTargetUnreachable Code = "TargetUnreachable"
	// CodeQuorumCannotHelp: no cluster is up more than half of the time, so
	// more of them make it worse.
	CodeQuorumCannotHelp Code = "QuorumCannotHelp"
	// CodeStrongUnderReplicated: strong consistency with fewer than
	// StrongMinimum clusters does not survive the loss of one.
	CodeStrongUnderReplicated Code = "StrongUnderReplicated"
	// CodeEvenCount: the user named an even number of clusters.
	CodeEvenCount Code = "EvenCount"
)

// Relaxations.
const (
	// CodeChangeReplicas: give each shard a replica in every cluster.
	CodeChangeReplicas Code = "ChangeReplicas"
	// CodeLowerTarget: ask for no more than what is possible.
	CodeLowerTarget Code = "LowerTarget"
	// CodeRaiseLatency: let the clusters be farther apart.
	CodeRaiseLatency Code = "RaiseLatency"
	// CodeAdmitClusters: let in clusters that are rejected for one reason only.
	CodeAdmitClusters Code = "AdmitClusters"
	// CodeAddClusters: add clusters that are as good as the best one.
	CodeAddClusters Code = "AddClusters"
)
