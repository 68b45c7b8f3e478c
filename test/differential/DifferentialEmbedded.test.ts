import * as EmbeddedStore from "../support/EmbeddedStore.ts"
import * as Suite from "./Suite.ts"

Suite.suite("the embedded store", EmbeddedStore.layer)
