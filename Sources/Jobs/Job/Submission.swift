import Crypto
import OrderedCollections
package import OrderedJSON
import Wording
package import Workflow

/// What a caller wants to be run, checked.
package struct Submission: Sendable {
    package private(set) var workflow: Workflow
    /// Nodes whose results are kept. Empty while no ComfyUI's node list is known, against which the workflow was checked.
    package private(set) var outputNodes: Set<Name>
    /// The assets that the workflow reads.
    package private(set) var inputs: [Input]
    /// Forwarded to ComfyUI, for example `api_key_comfy_org`. Never stored, logged or echoed.
    package private(set) var extraData: JSONObject
    /// It had credentials, and they went with the process that it was given to.
    package let lacksCredentials: Bool
    /// The caller's own object, given back with the job.
    package let metadata: JSONObject?
    package let options: Options

    /// Bytes of the metadata as JSON.
    package static let metadataLimit = 64 << 10

    package struct Input: Sendable {
        package let place: AssetPlace
        package let asset: Asset

        package init(place: AssetPlace, asset: Asset) {
            self.place = place
            self.asset = asset
        }
    }

    package struct Options: Sendable {
        /// From the start of execution; nil is unlimited.
        package var timeout: Duration? = nil
        /// What to do when ComfyUI drops some of the outputs as invalid and would run the rest.
        package var allowsPartial = false
        /// Within `priorities`; higher runs first.
        package var priority = 0

        package static let priorities = -100...100

        package init() {}
    }

    package init(
        workflow: Workflow, outputNodes: Set<Name>, inputs: [Input] = [], extraData: JSONObject = [:], lacksCredentials: Bool = false,
        metadata: JSONObject? = nil, options: Options = Options()
    ) {
        self.workflow = workflow
        self.outputNodes = outputNodes
        self.inputs = inputs
        self.extraData = extraData
        self.lacksCredentials = lacksCredentials
        self.metadata = metadata
        self.options = options
    }

    /// What makes two submissions the same for `Idempotency-Key`: what is run and how, not who pays for it (the contract excludes
    /// `extra_data`) nor how the request was written.
    package var digest: [UInt8] {
        let timeout = options.timeout?.components
        let parts = [
            workflow.text, metadata.map { JSON.object($0).encoded() } ?? [],
            Array("\(options.priority) \(options.allowsPartial) \(timeout?.seconds ?? 0) \(timeout?.attoseconds ?? 0)".utf8),
        ]
        var hash = SHA256()
        for part in parts {
            withUnsafeBytes(of: part.count) { hash.update(bufferPointer: $0) }
            hash.update(data: part)
        }
        return Array(hash.finalize())
    }

    package mutating func complete(outputNodes: Set<Name>, inputs: [Input]) {
        self.outputNodes = outputNodes
        self.inputs += inputs
    }

    /// What callers may still ask for when the job has ended.
    ///
    /// - Parameter isOnDisk: the workflow's text is found there.
    mutating func keepRecordOnly(isOnDisk: Bool) {
        if isOnDisk { workflow = .onDisk } else { workflow.keepTextOnly() }
        inputs = []
        extraData = [:]
    }
}
