package import OrderedJSON

/// What a caller wants to be run, checked.
package struct Submission: Sendable {
    package let workflow: Workflow
    /// Nodes whose results are kept, as far as ComfyUI's node list was known.
    package let outputNodes: Set<String>
    /// Forwarded to ComfyUI, for example `api_key_comfy_org`. Never stored, logged or echoed.
    package let extraData: JSONObject
    /// The caller's own object, given back with the job.
    package let metadata: JSONObject?
    package let options: Options

    package struct Options: Sendable {
        /// From the start of execution; nil is unlimited.
        package var timeout: Duration? = nil
        /// What to do when ComfyUI drops some of the outputs as invalid and would run the rest.
        package var allowsPartial = false
        /// The job ends, instead of waiting in the queue, when no ComfyUI can be reached for long: somebody blocks for it.
        package var failsWhenUnreachable = false

        package init() {}
    }

    package init(workflow: Workflow, outputNodes: Set<String>, extraData: JSONObject = [:], metadata: JSONObject? = nil, options: Options = Options()) {
        self.workflow = workflow
        self.outputNodes = outputNodes
        self.extraData = extraData
        self.metadata = metadata
        self.options = options
    }
}
