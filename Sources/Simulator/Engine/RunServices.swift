/// What a run needs from the simulator.
struct RunServices: Sendable {
    let compatibility: ComfySimulator.Compatibility
    /// Extra time per sampler step.
    let stepDelay: Duration
    /// The longer side of sampler previews, in pixels.
    let previewSize: Int
    /// Previews are stamped and have so many bytes.
    let previewBytes: Int?
    let catalog: NodeCatalog
    let folders: Folders
    let names: FileNames
    let letters: NodeLetters
    let hub: EventHub
    let control: RunControl
    let faults: FaultPoints
    let pictures: BoundedCache<Picture>
    let frames: BoundedCache<[UInt8]>
}
