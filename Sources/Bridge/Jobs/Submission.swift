import OrderedCollections
import OrderedJSON

/// What a caller wants to be run, checked.
struct Submission: Sendable {
    private(set) var workflow: Workflow
    /// Nodes whose results are kept, as far as ComfyUI's node list was known.
    let outputNodes: Set<String>
    /// The assets that the workflow reads.
    private(set) var inputs: [Input]
    /// Forwarded to ComfyUI, for example `api_key_comfy_org`. Never stored, logged or echoed.
    private(set) var extraData: JSONObject
    /// The caller's own object, given back with the job.
    let metadata: JSONObject?
    let options: Options

    struct Input: Sendable {
        let place: AssetPlace
        let asset: Asset
    }

    struct Options: Sendable {
        /// From the start of execution; nil is unlimited.
        var timeout: Duration? = nil
        /// What to do when ComfyUI drops some of the outputs as invalid and would run the rest.
        var allowsPartial = false
        /// The job ends, instead of waiting in the queue, when no ComfyUI can be reached for long: somebody blocks for it.
        var failsWhenUnreachable = false

        init() {}
    }

    init(
        workflow: Workflow, outputNodes: Set<String>, inputs: [Input] = [], extraData: JSONObject = [:], metadata: JSONObject? = nil, options: Options = Options()
    ) {
        self.workflow = workflow
        self.outputNodes = outputNodes
        self.inputs = inputs
        self.extraData = extraData
        self.metadata = metadata
        self.options = options
    }

    /// What callers may still ask for when the job has ended.
    mutating func keepRecordOnly() {
        workflow.keepTextOnly()
        inputs = []
        extraData = [:]
    }
}
