package policy

// Merge and MergeJSON are the two ways to merge, for a test that compares them.
var (
	Merge     = merge
	MergeJSON = mergeJSON
)
