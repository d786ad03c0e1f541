package engine

import (
	"context"
	"io"

	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/fairlead/fairlead/engine/distribution"
	"github.com/fairlead/fairlead/engine/image"
)

// LoadRequest asks for the images of an archive.
type LoadRequest struct {
	Archive io.Reader
	// Platform is the one to take of images of several, as linux/arm64; "" is all
	// that there are.
	Platform string
	// Progress is told each step, by one goroutine at a time; it may be nil.
	Progress func(jsonstream.Message)
}

// ImageLoad reads an archive of images. Progress is told which they were.
func (e *Engine) ImageLoad(ctx context.Context, req LoadRequest) error {
	platform, err := parsePlatform(req.Platform)
	if err != nil {
		return err
	}
	loaded, err := e.images.Load(ctx, req.Archive, platform, req.Progress)
	for _, img := range loaded {
		e.emitImage(apievents.ActionLoad, img.ID.String(), img.ID.String(), img)
	}
	return err
}

// ImageSave writes an archive of images, by name or ID, that ImageLoad reads, and
// Docker's load, and tools for OCI image layouts. platform chooses one of several, as
// linux/arm64; "" is all that are here. What is not there is refused before anything
// is written.
func (e *Engine) ImageSave(ctx context.Context, refs []string, platform string, to io.Writer) error {
	p, err := parsePlatform(platform)
	if err != nil {
		return err
	}
	saved, err := e.images.Save(ctx, refs, p, to)
	for _, img := range saved {
		e.emitImage(apievents.ActionSave, img.ID.String(), img.ID.String(), img)
	}
	return err
}

// ImageImport makes an image of a root file system and returns its ID. changes
// are instructions as in a Dockerfile; platform is what the image says it is for, ""
// the host's.
func (e *Engine) ImageImport(ctx context.Context, archive io.Reader, ref string, changes []string, message, platform string) (string, error) {
	p, err := parsePlatform(platform)
	if err != nil {
		return "", err
	}
	id, err := e.images.Import(ctx, archive, ref, image.ImportOptions{Changes: changes, Message: message, Platform: p})
	if err != nil {
		return "", err
	}
	if img, err := e.images.Get(ctx, id); err == nil {
		e.emitImage(apievents.ActionImport, id, id, img)
	}
	return id, nil
}

// ImageDownload opens what a URL has, to be imported.
func (e *Engine) ImageDownload(ctx context.Context, source string, progress func(jsonstream.Message)) (io.ReadCloser, error) {
	return distribution.Download(ctx, source, progress)
}

// ImageTag gives the image another name.
func (e *Engine) ImageTag(ctx context.Context, ref, target string) error {
	img, err := e.images.Get(ctx, ref)
	if err != nil {
		return err
	}
	if err := e.images.Tag(ctx, img, target); err != nil {
		return err
	}
	e.emitImage(apievents.ActionTag, img.ID.String(), familiar(target), img)
	return nil
}

// familiar is a valid reference in its short form, with its tag.
func familiar(ref string) string { return image.Familiar(ref) }
