/** What this build is. The bundler replaces the two names; run from source they do not exist. */
declare const COMPUTE_CTL_VERSION: string | undefined
declare const COMPUTE_CTL_BUILD_TAG: string | undefined

/** Version of the package. */
export const version: string = typeof COMPUTE_CTL_VERSION === "string" ? COMPUTE_CTL_VERSION : "0.0.0-source"

/** `BUILD_TAG` of the build: in logs, in the label of `compute_ctl_up`, in paths of extension archives. */
export const buildTag: string = typeof COMPUTE_CTL_BUILD_TAG === "string" ? COMPUTE_CTL_BUILD_TAG : "latest"
